"""`python -m scopevit` is the console script `scopevit`."""

import sys

from scopevit_command import main

sys.exit(main())
