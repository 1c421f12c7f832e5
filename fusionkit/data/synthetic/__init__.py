"""Made studies whose right fusion is known: the law that makes labels, and one file per sensor's signal."""

from fusionkit.data.synthetic.audio import make_audio as make_audio
from fusionkit.data.synthetic.eeg import make_eeg as make_eeg
from fusionkit.data.synthetic.image import make_image as make_image
from fusionkit.data.synthetic.law import PAIR as PAIR
from fusionkit.data.synthetic.law import SENSORS as SENSORS
from fusionkit.data.synthetic.law import Cues as Cues
from fusionkit.data.synthetic.law import Law as Law
from fusionkit.data.synthetic.law import Truth as Truth
from fusionkit.data.synthetic.text import make_text as make_text
