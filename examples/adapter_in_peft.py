"""Load an exported prompt with PEFT and say which token it finds likeliest after a text.

python examples/adapter_in_peft.py FOLDER_OF_THE_BASE_MODEL FOLDER_OF_THE_PROMPT TEXT
"""

import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Print the token."""
    folder, prompt, text = sys.argv[1:]
    base = AutoModelForCausalLM.from_pretrained(folder)
    tuned = PeftModel.from_pretrained(base, prompt).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"\n\ninput: {text}\noutput:", return_tensors="pt").input_ids
    mask = torch.ones_like(ids)
    with torch.no_grad():
        logits = tuned(input_ids=ids, attention_mask=mask, input_type_mask=torch.zeros_like(ids)).logits
    sys.stdout.write(f"{tokenizer.decode(logits[0, -1].argmax())!r}\n")


if __name__ == "__main__":
    main()
