"""Images: reading, patches, augmentations."""

from .augment import Affine as Affine
from .augment import Brightness as Brightness
from .augment import Cutout as Cutout
from .augment import Flip as Flip
from .augment import ImageNoise as ImageNoise
from .augment import Shift as Shift
from .blur import Blur as Blur
from .front_end import Patches as Patches
from .rand_augment import RandAugment as RandAugment
from .reader import Image as Image
from .resized_crop import ResizedCrop as ResizedCrop
