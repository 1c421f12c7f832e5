"""`fusionkit bench`: how fast is it here?"""

from fusionkit.cli.bench.verb import app as app
