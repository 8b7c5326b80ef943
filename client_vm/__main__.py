"""`python -m client_vm`: the command `farcall` from a checkout."""

import sys

from client_vm.command import main

sys.exit(main())
