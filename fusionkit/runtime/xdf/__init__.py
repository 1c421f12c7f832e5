"""XDF files, the field's format for streams with clocks of their own: written as it goes, read in constant memory."""

from fusionkit.runtime.xdf.chunks import MARK as MARK
from fusionkit.runtime.xdf.clock import FileClock as FileClock
from fusionkit.runtime.xdf.reader import XdfFile as XdfFile
from fusionkit.runtime.xdf.reader import XdfStream as XdfStream
from fusionkit.runtime.xdf.writer import XdfWriter as XdfWriter
