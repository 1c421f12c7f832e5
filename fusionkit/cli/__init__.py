"""The command line: one file a verb."""

from fusionkit.cli.frame import main as main
