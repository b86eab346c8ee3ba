"""What libraries say that is no news to the user of a command, and would drown what is."""

from __future__ import annotations

import logging
import os
import warnings


def leave_out_what_is_no_news() -> None:
    """From here on; of a command only, a program that uses the library decides for itself."""
    # What Lightning says at this level: each save, each restore, advertisements.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\.utilities\._pytree")
    warnings.filterwarnings("ignore", message=".*broadcast_buffers.*deprecated|The `srun` command is available")
    # A test needs no callback of the training, and a frozen encoder is meant to be.
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used")
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
    # Each process logs sums over all of them already, or a share of its own that is meant to be its own.
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of Lightning's own calls
