"""What primitives without a lowering are, for messages and for docs/MINDIR.md."""

from __future__ import annotations

import re

_KINDS = (
    ("gradients, which only training needs", r"Grad|Backward|^InplaceStopGradient|^DumpGradient"),
    (
        "steps of optimizers and of training",
        r"Apply(?!Rotary)|^Adam|^Lamb|^LARS|^SGD|Momentum|^Silent|^FusedSparse|^Push$|^Pull$|LossScale|FloatStatus"
        r"|^BatchNormStats|^BatchNormGather|^BatchNormElemt|^SyncBatchNorm|BNTraining|BatchNormFold|CorrectionMul|ULQ"
        r"|^ActsULQ|WtsARQ|ThorGradient|^DetTriangle|^Cus[A-Z]|^ThorIm2Col|^Cholesky.*Trsm|^KMeans",
    ),
    (
        "communication between devices and processes",
        r"^DistComm|^InnerComm|^AllReduce|^AllGather|^Alltoall|^AlltoAll|^Broadcast$|Reduce[sS]catter|^ReduceScatter|^Send$"
        r"|^Receive$|^Barrier|^Collective|ISendIRecv|^Neighbor|^Virtual|^Mirror|HostAll|HostReduce|^Put[Mm]em|^PutMem|^GetMem"
        r"|^Signal|^SymmetricMemory|SymmetricMemory|^Rpc|^Reshard|^AllSwap|^MoveTo|ToRemote|ToDevice$|^CopyToDevice|^Free$"
        r"|MatmulReduceScatter|AllGatherMatmul|MatmulAllReduce|^MoeDistribute|^Reduce$|^AllFinite",
    ),
    (
        "random numbers, whose generator is MindSpore's own",
        r"[Rr]and|Normal(?!ize|izat)|Uniform|Bernoulli|Multinomial|Poisson|Gamma$|Laplace|Cauchy|Exponential|Sampler$"
        r"|^DropoutGenMask|^Generator|^NonDeterministic|^GenerateEod|^InplaceRandom|ChoiceWithMask|DistortedBounding",
    ),
    (
        "sparse tensors and tables of embeddings",
        r"Sparse|CSR|COO|^Dense.*Set|^SetSize|MapTensor|Cache|^Coalesce|^RaggedRange",
    ),
    (
        "writing into a tensor, and views of one that others write into",
        r"^Inplace|^SetData|^TensorCopySlices|^Assign|^Scatter|^InnerInplace|^CopyWithSlice|^DynamicAssign",
    ),
    (
        "fused operators of Ascend and its quantization",
        r"Attention|^Moe|^Mla|Gmm|GroupedMatmul|^Quant|Quant$|QuantV|DequantSwiglu|AntiQuant|^WeightQuant|^FFN|Router|Nsa"
        r"|^KvScale|^ReshapeAndCache|^RingAttention|LightningIndexer|^FusedAddTopK|^GroupTopk|^DynamicNTK|^DynamicQuant"
        r"|^DynamicBlockQuant|^QuantLinear|MultiScaleDeformable|^FormatCast|^TransposeBatchMatmul|^MatmulDDS|^DSD|^Dequant$",
    ),
    (
        "machinery of MindSpore itself",
        r"Hook|PyFunc|PyInterpret|PyExecute|Custom|^Print|Dump|Summary|^Insert|^Check[A-Z]|^Error|^Get[A-Z]|Dequeue|Enqueue|^Stack[IDP]|^Is[A-Z][a-z]+$|^Same|^Top[A-Z]|Tensor(Get|Set)|index_info|IndexInfo|^Op",
    ),
)


def kind_of_primitive(name: str) -> str:
    """A few words on the group that a primitive belongs to, in the plural; "others" where it is in none."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name)), "others")


def without_lowering(name: str) -> str:
    """Why a model with this primitive, which has no lowering, cannot be compiled."""
    kind = kind_of_primitive(name)
    reason = "planish has no lowering for this primitive"
    return reason if kind == "others" else f"{reason}; it is one of: {kind}"


__all__ = ["kind_of_primitive", "without_lowering"]
