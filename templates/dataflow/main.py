"""The file that the Flex Template launcher runs."""
import sys

from beam_coresets.pipelines.console.flex_template import main

sys.exit(main())
