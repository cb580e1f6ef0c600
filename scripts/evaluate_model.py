#!/usr/bin/env python
"""Evaluate a model, zero-shot, by retrieval, probes, sentence similarity and more: `clippo evaluate`.

python scripts/evaluate_model.py retrieval --model runs/flickr8k --data data/flickr8k --captions en=captions
torchrun --nproc_per_node 8 scripts/evaluate_model.py all evaluation/flickr8k
"""

from clippo.evaluation.command import main

if __name__ == "__main__":
    main()
