"""Zero-shot, retrieval, probes, STS, bitext, modality gap: `python scripts/evaluate.py COMMAND --help`.

Under `torchrun` or `accelerate launch` the processes share the embedding work.
"""

import importlib
import sys
from pathlib import Path

if __name__ == "evaluate":
    # Python looks beside the running script first, so `import evaluate`, in this script and in every other one of this
    # folder, finds this file before the package of that name. It steps aside and lets the package in.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    del sys.modules["evaluate"]
    importlib.import_module("evaluate")
else:
    from clippo.evaluation.command import main

    if __name__ == "__main__":
        main()
