"""What a command of any application needs: its run folder, its messages, what it leaves behind."""
