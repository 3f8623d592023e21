from datasets import load_dataset

from dar_ref.llm import DARConfig, DARTrainer, load_tokenizer


def brevity(completions, **_):
    return [-float(len(text.split())) for text in completions]


model = "out/toy/export/policy"
prompts = load_dataset("json", data_files="out/toy/export/prompts/train.jsonl", split="train")
args = DARConfig("out/from-trl", use_cpu=True, max_steps=20, max_completion_length=12, learning_rate=1e-3)
trainer = DARTrainer(model, brevity, args, prompts, processing_class=load_tokenizer(model))
trainer.train()
