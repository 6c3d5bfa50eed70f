"""Root-mean-square norms by torch's fused kernel: on CUDA one launch forward and one back, not about six each."""

from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional

#: Norms of transformers that are x / sqrt(mean(x²) + eps) · weight, by the names of their classes.
_PLAIN: Final = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}


class FusedNorm(nn.Module):
    """A norm of a prepared model. In bfloat16 it rounds once, after the weight, and not before it as well."""

    weight: Tensor
    variance_epsilon: float

    @classmethod
    def convert(cls, module: Any) -> bool:
        """Make `module` one, in place, if it is a plain norm; returns whether it is one now."""
        if type(module).__name__ not in _PLAIN:
            return False
        module.__class__ = cls
        return True

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] of states [..., H]."""
        return functional.rms_norm(states, self.weight.shape, self.weight, self.variance_epsilon)
