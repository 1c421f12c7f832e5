"""RCFT: causal updates through time within each branch, attention across branches at each time step, repeated."""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Tokens, any_present, pool, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.align import align_tokens, bin_times
from fusionkit.fusion.branches import BranchLinear, BranchNorm, last_real, masked_softmax
from fusionkit.fusion.causal import BranchLSTM, CausalAttention, sinusoid
from fusionkit.fusion.operation import IntermediateFusion


class Trace(NamedTuple):
    """What happens inside: states of the last layer, what is real, and who attended to whom.

    ``mask`` says where a branch has something in a bin; row i of an attention map is what branch i took.
    """

    states: Float[Tensor, "branch batch step dim"]
    mask: Bool[Tensor, "branch batch step"]
    attention: list[Float[Tensor, "batch step head branch branch"]]


class Cache(NamedTuple):
    """What streaming remembers between bins: plain tensors of fixed shape, for an exported graph to take and give.

    ``number`` counts the bins so far, ``begun`` says which branch has anything that is remembered, ``real`` which of the
    last bins were real, the newest last. ``first`` and ``second`` are keys and values
    (layer, branch, batch, group, step, width), or hidden states and cells (layer, branch, batch, dim) of LSTMs.
    """

    number: Int[Tensor, ""]
    begun: Bool[Tensor, "branch batch"]
    real: Bool[Tensor, "branch batch step"]
    first: Float[Tensor, "layer branch batch *memory"]
    second: Float[Tensor, "layer branch batch *memory"]


class RCFTLayer(nn.Module):
    r"""One layer over all branches at once.

    For branch m, with states :math:`H_m` and attention over branches at one time step t:

    .. math:: A_m &= H_m + \mathrm{CausalGQA}_m(\mathrm{LN}(H_m)) \\
              U_m &= \mathrm{gelu}(\mathrm{Dense}_m(A_m)) \\
              Q_m, K_m, V_m &= U_m W^q_m,\; U_m W^k_m,\; \mathrm{Dropout}(U_m W^v_m) \\
              R_t &= \mathrm{softmax}(Q_t K_t^\top / \sqrt{d_h}) V_t \\
              H'_m &= \mathrm{LN}(U_m + R_m W^o_m)

    A branch that has nothing at a time step is no key there, but still listens.
    """

    def __init__(
        self,
        branches: int,
        dim: int,
        *,
        heads: int,
        kv_groups: int,
        dropout: float,
        temporal: str,
        temporal_residual: bool,
        rotary: bool,
        residual: str,
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.residual = heads, dropout, residual
        self.before = BranchNorm(branches, dim) if temporal_residual else None
        self.temporal: CausalAttention | BranchLSTM
        if temporal == "lstm":
            self.temporal = BranchLSTM(branches, dim)
        else:
            self.temporal = CausalAttention(branches, dim, heads, kv_groups, rotary)
        self.dense = BranchLinear(branches, dim, dim)
        self.query = BranchLinear(branches, dim, dim, bias=False)
        self.key = BranchLinear(branches, dim, dim, bias=False)
        self.value = BranchLinear(branches, dim, dim, bias=False)
        self.out = BranchLinear(branches, dim, dim, bias=False)
        self.norm = BranchNorm(branches, dim)

    def forward(
        self, states: Float[Tensor, "branch batch step dim"], mask: Bool[Tensor, "branch batch step"]
    ) -> tuple[Float[Tensor, "branch batch step dim"], Float[Tensor, "batch step head branch branch"]]:
        """New states, and the attention map."""
        return self._across(self._kept(states, self.temporal(self._normed(states), mask)), mask)

    def step(
        self,
        states: Float[Tensor, "branch batch 1 dim"],
        past: tuple[Tensor, Tensor],
        mask: Bool[Tensor, "branch batch memory"],
        real: Bool[Tensor, "branch batch 1"],
    ) -> tuple[Float[Tensor, "branch batch 1 dim"], tuple[Tensor, Tensor]]:
        """New states of one more step, and the memory with it; see `CausalAttention.step` and `BranchLSTM.step`."""
        if isinstance(self.temporal, BranchLSTM):
            gathered, past = self.temporal.step(self._normed(states), past, real[..., 0])
        else:
            gathered, past = self.temporal.step(self._normed(states), past, mask)
        return self._across(self._kept(states, gathered), real)[0], past

    def _normed(self, states: Float[Tensor, "branch batch step dim"]) -> Float[Tensor, "branch batch step dim"]:
        return states if self.before is None else cast(Tensor, self.before(states))

    def _kept(
        self, states: Float[Tensor, "branch batch step dim"], gathered: Float[Tensor, "branch batch step dim"]
    ) -> Float[Tensor, "branch batch step dim"]:
        return gathered if self.before is None else states + gathered

    def _across(
        self, updated: Float[Tensor, "branch batch step dim"], mask: Bool[Tensor, "branch batch step"]
    ) -> tuple[Float[Tensor, "branch batch step dim"], Float[Tensor, "batch step head branch branch"]]:
        """Each time step by itself: products and sums, since matrices of a few branches are too small to multiply."""
        dense = F.gelu(self.dense(updated))
        value = F.dropout(self.value(dense), self.dropout, self.training)
        query, key, value = (x.unflatten(3, (self.heads, -1)) for x in (self.query(dense), self.key(dense), value))
        scores = (query[:, None] * key).sum(-1) * query.shape[-1] ** -0.5  # branch branch batch step head
        attention = masked_softmax(scores, mask[..., None], axis=1)
        taken = (attention[..., None] * value).sum(1).flatten(3)
        skip = dense if self.residual == "dense" else updated
        return self.norm(skip + self.out(taken)), attention.permute(2, 3, 4, 0, 1)


@fusion.register("rcft")
class RCFT(IntermediateFusion):
    """Repetitive Cross-modal Fusion Transformer: time within a branch, then branches within a time step, repeated.

    Streams are first brought onto one clock of ``steps`` bins; nothing of a later bin reaches an earlier one.
    At the end the branches of a step are put side by side, one that has had nothing yet as zeros, and projected
    to ``dim``; heads read the last step that has anything. The cost grows with the square of ``steps`` and of
    the number of branches, never of their product. It is causal in time only; it learns no causes.

    The layers are those of the paper's figure. That temporal attention has a pre-norm residual of its own,
    positions, GELU, all default numbers and masks are our reconstruction, as is ``residual``: the figure's skip
    line leaves the dense box, which may also be read as that box's input.

    Args:
        inputs: width of each token stream.
        dim: width of the stream that comes out.
        duration: length of the window in seconds; None where no stream has time, and then there is one step.

    Raises:
        ConfigError: ``heads`` does not divide ``dim``, or ``kv_groups`` does not divide ``heads``.

    Reference:
        Wang, Wu, Zhang and Larson, "Causal Representation Learning on Degraded Multi-Sensor Streams",
        OpenReview 5txkAwKd12, 2025.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        layers: Annotated[int, Field(ge=1, description="how often time and branches alternate")] = 3,
        heads: Annotated[int, Field(ge=1, description="attention heads, a divisor of dim")] = 4,
        kv_groups: Annotated[
            int, Field(ge=1, description="key and value heads of the temporal attention, a divisor of heads")
        ] = 2,
        dropout: Annotated[float, Field(ge=0, lt=1, description="on the values of the attention over branches")] = 0.1,
        steps: Annotated[int, Field(ge=1, description="equal bins of the window, the common clock")] = 8,
        temporal: Annotated[
            Literal["attention", "lstm"], Field(description="what carries a branch through time")
        ] = "attention",
        temporal_residual: Annotated[bool, Field(description="the temporal update is added to its input")] = True,
        positions: Annotated[
            Literal["rotary", "sinusoidal", "none"], Field(description="how temporal attention knows the step")
        ] = "rotary",
        residual: Annotated[
            Literal["dense", "input"], Field(description="what is added after attention: the dense layer or its input")
        ] = "dense",
        tie_layers: Annotated[bool, Field(description="one layer's weights for all repetitions")] = False,
    ) -> None:
        super().__init__(inputs, dim, duration)
        branches = len(self.inputs)
        self.repetitions = layers
        self.steps = 1 if duration is None else steps
        self.sinusoidal = positions == "sinusoidal" and temporal == "attention"
        self.recurrent = temporal == "lstm"
        self.project = nn.ModuleList(
            nn.Identity() if width == dim else nn.Linear(width, dim) for width in self.inputs.values()
        )
        self.layers = nn.ModuleList(
            RCFTLayer(
                branches,
                dim,
                heads=heads,
                kv_groups=kv_groups,
                dropout=dropout,
                temporal=temporal,
                temporal_residual=temporal_residual,
                rotary=positions == "rotary",
                residual=residual,
            )
            for _ in range(1 if tie_layers else layers)
        )
        self.join = nn.Linear(branches * dim, dim)

    def trace(self, inputs: Mapping[str, Tokens]) -> Trace:
        """Run every layer and keep what each branch became and the attention maps, one a layer."""
        values, real = align_tokens(self._projected(inputs), self.steps, self.duration)
        states, mask = values.permute(2, 0, 1, 3), real.permute(2, 0, 1)
        if self.sinusoidal:
            states = states + sinusoid(self.steps, self.dim, states)
        maps = []
        for repetition in range(self.repetitions):
            states, attention = self.layers[repetition % len(self.layers)](states, mask)
            maps.append(attention)
        return Trace(states, mask, maps)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch; a step is real where any branch has something in it."""
        states, mask, _ = self.trace(inputs)
        begun = mask.long().cumsum(2) > 0  # a branch between two tokens still remembers the first
        tokens = self._joined(states, mask, begun, inputs)
        return tokens._replace(time=bin_times(self.steps, self.duration, tokens.values))

    def empty_cache(self, batch: int) -> Cache:
        """What a stream starts from, on the device and in the type of the weights."""
        like = self.join.weight
        temporal = cast(RCFTLayer, self.layers[0]).temporal
        shape: tuple[int, ...] = (self.repetitions, len(self.inputs), batch, self.dim)
        if isinstance(temporal, CausalAttention):
            shape = (*shape[:3], temporal.groups, self.steps, temporal.width)
        begun = torch.zeros(len(self.inputs), batch, dtype=torch.bool, device=like.device)
        real = torch.zeros(len(self.inputs), batch, self.steps, dtype=torch.bool, device=like.device)
        number = torch.zeros((), dtype=torch.long, device=like.device)
        return Cache(number, begun, real, like.new_zeros(shape), like.new_zeros(shape))

    def step(self, inputs: Mapping[str, Tokens], cache: Cache | None = None) -> tuple[Tokens, Cache]:
        """Take one more bin: the very token that `forward` gives for it, without the bins before it.

        A cache holds one window of ``steps`` bins. Used for longer it slides: in every layer a bin attends to itself and
        the ``steps`` - 1 bins before it, whose keys and values are those that they had when they came. What they
        gathered then stays in them, so that an answer hears of up to ``layers`` * (``steps`` - 1) bins back, faintly: it
        is not that of a fresh window of the last ``steps`` bins, but costs one bin. A branch with nothing in these
        ``steps`` bins counts as one that has had nothing yet. An LSTM forgets by its gates alone. Sinusoidal positions
        count on from the first bin, beyond what was trained.

        Args:
            inputs: tokens of this bin alone, as many as there are (their times are not looked at); of streams without
                time, all of them, every time.
            cache: what the step before gave; None at the first bin.
        """
        streams = self._projected(inputs).values()
        states = torch.stack([pool(tokens) for tokens in streams])[:, :, None]
        real = torch.stack([tokens.mask.any(1) for tokens in streams])[..., None]
        cache = cache or self.empty_cache(states.shape[1])
        number = cache.number
        if self.sinusoidal:
            states = states + sinusoid(1, self.dim, states, number)
        remembered = torch.cat([cache.real[..., 1:], real], -1)
        past = []
        for i in range(self.repetitions):
            layer = cast(RCFTLayer, self.layers[i % len(self.layers)])
            states, kept = layer.step(states, (cache.first[i], cache.second[i]), remembered, real)
            past.append(kept)
        begun = cache.begun | real[..., 0] if self.recurrent else remembered.any(-1)
        first, second = (torch.stack(part) for part in zip(*past, strict=True))
        tokens = self._joined(states, real, begun[..., None], inputs)
        if self.duration is not None:
            centre = (number + 0.5) * (self.duration / self.steps)
            tokens = tokens._replace(time=centre.expand(states.shape[1], 1))
        return tokens, Cache(number + 1, begun, remembered, first, second)

    def _projected(self, inputs: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """Every stream in the recipe's order, scrubbed and as wide as the states."""
        streams = {}
        for project, name in zip(self.project, self.inputs, strict=True):
            clean = scrub(inputs[name])
            streams[name] = clean._replace(values=project(clean.values))
        return streams

    def _joined(
        self,
        states: Float[Tensor, "branch batch step dim"],
        mask: Bool[Tensor, "branch batch step"],
        begun: Bool[Tensor, "branch batch step"],
        inputs: Mapping[str, Tokens],
    ) -> Tokens:
        """Branches side by side, projected; without times."""
        kept = torch.where(begun[..., None], states, torch.zeros_like(states))
        joined = self.join(kept.permute(1, 2, 0, 3).flatten(2))
        real = mask.any(0)
        joined = torch.where(real[..., None], joined, torch.zeros_like(joined))
        return Tokens(joined, real, any_present(inputs[name] for name in self.inputs))

    def readout(self, tokens: Tokens) -> Float[Tensor, "batch dim"]:
        """The last real step, which has seen all before it; zeros where there is none."""
        return last_real(tokens.values, tokens.mask)
