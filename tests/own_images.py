"""Images of own data, and what makes training on them quick."""

from pathlib import Path

import cv2
import numpy as np

# One step a training, no processes that load.
QUICK = (
    'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False',
    'train_cfg.max_epochs=1',
)  # fmt: skip
# A detector of one class head's convolution and narrow maps.
SMALL_HEADS = (
    'model.neck.out_channels=32', 'model.bbox_head.in_channels=32',
    'model.bbox_head.feat_channels=32', 'model.bbox_head.stacked_convs=1',
)  # fmt: skip


def make_image(path: Path, width: int = 64, height: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
