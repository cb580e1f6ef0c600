"""Visual question answering: questions, answers, accuracy, fine-tuning and figures."""
