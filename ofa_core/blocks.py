"""Building blocks: the unit that is measured, stored in a latency table, and summed.

A `BlockSpec` describes a layer by channels and pixels, never by ratios, so spaces with a layer in common share its
measurement. Counting rules (docs/formats.md): MACs include the squeeze-and-excite convolutions and exclude
pooling, biases and batch normalisation; parameters include two per batch-norm channel, the squeeze-and-excite biases
and the classifier bias, and exclude kernel transform matrices. They equal the published counts to the unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ofa_core.errors import OfaError

__all__ = ["ACTS", "OPS", "Act", "BlockSpec", "Op", "make_divisible"]

Op = Literal["first_conv", "mbconv", "final_expand", "avg_pool", "feature_mix", "classifier"]
Act = Literal["relu", "relu6", "h_swish", "none"]
OPS: tuple[Op, ...] = get_args(Op)
ACTS: tuple[Act, ...] = get_args(Act)


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round channels to a multiple of `divisor`, never more than 10 % down (the rule of the MobileNet papers)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True, slots=True, order=True)
class BlockSpec:
    """One layer of a network of the family, and the key of a latency table.

    Attributes:
        op: type of the layer. `first_conv` is the 3x3 stem with batch norm; `mbconv` an inverted residual block;
            `final_expand` the last 1x1 convolution with batch norm before the pooling; `avg_pool` the global average
            pooling; `feature_mix` the 1x1 convolution without batch norm after the pooling; `classifier` the linear
            layer.
        in_px: height and width of the input feature map.
        out_px: height and width of the output feature map.
        in_c: input channels.
        mid_c: channels of the depth-wise convolution of an `mbconv` (equal to `in_c` when the block does not expand);
            0 for every other op.
        out_c: output channels (classes for the classifier).
        kernel_px: side of the (depth-wise) kernel; 1 for 1x1 and linear layers, 0 for the pooling.
        stride: stride of the kernel.
        act: activation.
        se: True if an `mbconv` has squeeze-and-excite.
        shortcut: True if the input is added to the output.
    """

    op: Op
    in_px: int
    out_px: int
    in_c: int
    mid_c: int
    out_c: int
    kernel_px: int
    stride: int
    act: Act
    se: bool
    shortcut: bool

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise OfaError(f"unknown op {str(self.op)[:40]!r}; one of {', '.join(OPS)}")
        if self.act not in ACTS:
            raise OfaError(f"unknown activation {str(self.act)[:40]!r}; one of {', '.join(ACTS)}")
        if min(self.in_px, self.out_px, self.in_c, self.out_c, self.stride) < 1 or self.mid_c < 0 or self.kernel_px < 0:
            raise OfaError(f"sizes, channels and stride must be positive in {self}")
        if self.op == "mbconv" and self.mid_c < self.in_c:
            raise OfaError(f"an mbconv has mid_c >= in_c, not {self.mid_c} < {self.in_c}")
        if self.shortcut and (self.in_c != self.out_c or self.stride != 1):
            raise OfaError(f"a shortcut needs equal channels and stride 1, not {self.in_c} -> {self.out_c}")

    @property
    def expands(self) -> bool:
        """True if an `mbconv` starts with a 1x1 convolution from `in_c` to `mid_c`."""
        return self.op == "mbconv" and self.mid_c != self.in_c

    @property
    def se_c(self) -> int:
        """Channels of the squeeze-and-excite bottleneck, 0 without one."""
        return make_divisible(self.mid_c // 4) if self.se else 0

    @property
    def pointwise_macs(self) -> int:
        """MACs of 1x1 and linear layers, squeeze-and-excite excluded."""
        if self.op == "mbconv":
            expand = self.in_c * self.mid_c * self.in_px**2 if self.expands else 0
            return expand + self.mid_c * self.out_c * self.out_px**2
        if self.op in ("final_expand", "feature_mix", "classifier"):
            return self.in_c * self.out_c * self.out_px**2
        return 0

    @property
    def kernel_macs(self) -> int:
        """MACs of the k x k convolution: depth-wise in an `mbconv`, full in the stem."""
        if self.op == "mbconv":
            return self.kernel_px**2 * self.mid_c * self.out_px**2
        if self.op == "first_conv":
            return self.kernel_px**2 * self.in_c * self.out_c * self.out_px**2
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.pointwise_macs + self.kernel_macs + 2 * self.mid_c * self.se_c

    @property
    def params(self) -> int:
        """Learnt parameters."""
        if self.op == "mbconv":
            expand = (self.in_c + 2) * self.mid_c if self.expands else 0
            depthwise = (self.kernel_px**2 + 2) * self.mid_c
            se = 2 * self.mid_c * self.se_c + self.se_c + self.mid_c if self.se else 0
            return expand + depthwise + se + (self.mid_c + 2) * self.out_c
        if self.op == "first_conv":
            return (self.kernel_px**2 * self.in_c + 2) * self.out_c
        if self.op == "final_expand":
            return (self.in_c + 2) * self.out_c
        if self.op == "feature_mix":
            return self.in_c * self.out_c
        if self.op == "classifier":
            return (self.in_c + 1) * self.out_c
        return 0

    @property
    def activation_elements(self) -> int:
        """Elements of all feature maps that the layer reads or writes, inner ones included."""
        outer = self.in_c * self.in_px**2 + self.out_c * self.out_px**2
        if self.op != "mbconv":
            return outer
        expanded = self.mid_c * self.in_px**2 if self.expands else 0
        return outer + expanded + self.mid_c * self.out_px**2

    @property
    def peak_elements(self) -> int:
        """Largest number of elements of feature maps that exist at once while the layer runs.

        These are the input and output of one operation, and the block's input as long as a shortcut needs it.
        Convolutions include batch norm and activation; squeeze-and-excite and the addition work in place.
        """
        read, written = self.in_c * self.in_px**2, self.out_c * self.out_px**2
        if self.op != "mbconv":
            return read + written
        kept = read if self.shortcut else 0
        wide, filtered = self.mid_c * self.in_px**2, self.mid_c * self.out_px**2
        first = max(read + wide, kept + wide + filtered) if self.expands else read + filtered
        return max(first, kept + filtered + written)

    def label(self) -> str:
        """Return a short readable name, such as `mbconv 28x28 40->240->40 k5 s1 h_swish se +`."""
        if self.op == "mbconv":
            marks = f"{' se' if self.se else ''}{' +' if self.shortcut else ''}"
            return (
                f"mbconv {self.in_px}x{self.in_px} {self.in_c}->{self.mid_c}->{self.out_c} "
                f"k{self.kernel_px} s{self.stride} {self.act}{marks}"
            )
        return f"{self.op} {self.in_px}x{self.in_px} {self.in_c}->{self.out_c}"
