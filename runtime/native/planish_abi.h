/* The binary interface between generated code and the C runtime.
 *
 * Everything here is known to the code generator: field order, field sizes and the meaning of each function are fixed
 * for one PLANISH_ABI_VERSION. Structures grow only at their end. All pointers are 8 bytes; little endian.
 * Applications never include this file; they include planish.h.
 */
#ifndef PLANISH_ABI_H
#define PLANISH_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PLANISH_ABI_VERSION 4u

/* State of one call, first member of the runtime's context. Generated code reads it, and writes none of its fields. */
typedef struct planish_env planish_env;
struct planish_env {
  uint8_t *arena;         /*  0  the one planned arena of this context, 4096-byte aligned                      */
  const uint8_t *weights; /*  8  packed weights, 4096-byte aligned, read-only                                  */
  void **inputs;          /* 16  data of each model input, in order; aligned to the element size only          */
  void **outputs;         /* 24  data of each model output, in order; aligned to the element size only         */
  const int64_t *symbols; /* 32  value of each shape symbol, in the module's order                             */
  uint8_t *scratch;       /* 40  worker w owns [scratch + w * scratch_stride, + scratch_stride), 64-aligned    */
  int64_t scratch_stride; /* 48  bytes                                                                         */
  void *reserved;         /* 56 */
};

/* One part of a parallel range: works on [begin, end) as worker `worker`; returns 0 or a failure's status. */
typedef int32_t (*planish_task)(planish_env *env, void *const *buffers, const int64_t *args, int64_t begin,
                                int64_t end, int32_t worker);

/* Split [0, count) statically into at most count/grain parts, one per thread of the pool (the caller has part 0), and
 * wait for all of them. A thread prefers its own part but may do another's; `worker` is the part's number. Returns 0,
 * or a nonzero status of one of the parts. `buffers` and `args` are passed on untouched. Not to be called from inside
 * a task. */
int32_t planish_parallel(planish_env *env, planish_task task, void *const *buffers, const int64_t *args, int64_t count,
                         int64_t grain);

/* A data-dependent index is outside lo <= value < hi. Records the node's name, the value and the range in the context;
 * the first failure wins; callable from any worker. Returns the nonzero status to be returned by the caller. */
int32_t planish_fail_index(planish_env *env, int32_t node, int64_t value, int64_t lo, int64_t hi);

/* Any other failure in node `node` (-1: none). `code` is one of PLANISH_FAIL_*. Returns the nonzero status. */
int32_t planish_fail(planish_env *env, int32_t node, int32_t code);

/* Profiling builds only. Mark 0: a run begins. Mark n > 0: what was executed since the previous mark is charged to n.
 * Called between kernels, by the thread that runs the program. */
void planish_profile(planish_env *env, int32_t mark);

#define PLANISH_FAIL_INTERNAL 1  /* an internal inconsistency of the generated code */
#define PLANISH_FAIL_MEMORY 2    /* memory ran out */
#define PLANISH_FAIL_SHAPE 3     /* shapes that became known during the run do not fit together */
#define PLANISH_FAIL_UNDEFINED 4 /* the operation has no result for these values */

/* Data type names: bool i2 u2 i4 u4 i8 u8 i16 u16 i32 u32 i64 u64 f16 bf16 f32 f64 c64 c128
 * f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz f8e8m0 f4e2m1 string.
 * bool is one byte, 0 or 1. Elements of 4 and 2 bits are packed two and four in a byte, the first in
 * the low bits. */
typedef struct planish_io_spec {
  const char *name;
  const char *dtype;   /* element type of a tensor; else the type as text: "seq<f32[N]>", "optional<i64[*]>",
                          "optional<seq<f32[*]>>", "map<string,f32>" (inside, only element types are looked at) */
  int32_t rank;        /* -1: known per variant or after the run only, or no tensor; then dims is NULL */
  const int64_t *dims; /* >= 0: constant; < 0: the symbol of number -(d + 1) */
} planish_io_spec;

/* Self-test. Element i of input j is made from
 *   x = mix(seed + j * 0xD1342543DE82EF95 + (i + 1) * 0x9E3779B97F4A7C15)  modulo 2^64, mix = splitmix64's finalizer
 *   u = (x >> 11) * 2^-53                                                  in [0, 1)
 * floating point: lo + u * (hi - lo), computed in f64, rounded to the element type; integers and bool:
 * floor(lo + u * (hi - lo + 1)), at most hi; 8-bit floats: the bits x mod 64; 4-bit floats: the bits x mod 16.
 * runtime/selftest.py computes the same inputs. A sample is right when |got - value| <= atol + rtol * |value| (or when
 * both are NaN), a sum when |got - sum| <= count * atol + rtol * (sum of absolute values). */
typedef struct planish_selftest_sample {
  uint32_t output;  /* number of the output */
  uint32_t padding; /* 0 */
  int64_t index;    /* flat index in row-major order */
  double value;
} planish_selftest_sample;

typedef struct planish_selftest {
  uint64_t seed;
  const int64_t *symbols; /* the value of each symbol during the test; n_symbols */
  const double *ranges;   /* lo, hi of each input; 2 * n_inputs */
  const double *sums;     /* sum and sum of absolute values of each output, in f64; 2 * n_outputs; NaN: not checked */
  double rtol, atol;
  uint64_t n_samples;
  const planish_selftest_sample *samples;
} planish_selftest;

typedef struct planish_module planish_module;

/* Ranks that the model does not take, and why. */
typedef struct planish_refusal {
  const int32_t *ranks; /* of each input; -1: any, it is known without variants */
  const char *reason;
} planish_refusal;

/* ---- values of symbols that no dimension gives (docs/HOST.md) ---- */
#define PLANISH_BINDING_SIZE 1u /* a size: values below 0 are refused */

/* Element number `element` (flat) of input `input`, which is i64 or i32, is the value of a symbol. Read at the start of
 * each run, after the symbols of dimensions; a symbol that has a value already must have the same. */
typedef struct planish_binding {
  uint32_t input;
  int32_t node; /* named in errors; -1: none */
  int64_t element;
  uint32_t symbol;
  uint32_t flags; /* PLANISH_BINDING_SIZE or 0 */
} planish_binding;

/* What must hold before `sizes` and `run` may be called: one row for each expression. */
typedef struct planish_check {
  int32_t node;         /* -1: none */
  int32_t kind;         /* 0: the expression must be 0; 1: it must be at least 0 */
  const char *message;  /* what does not fit */
  const char *text;     /* the expression in words, "N - M"; may be NULL */
  uint32_t n_symbols, padding; /* the symbols that occur in it, shown with their values */
  const uint32_t *symbols;
} planish_check;

/* The sizes that a symbol may have: low <= value <= high. */
typedef struct planish_symbol_range {
  uint32_t symbol, padding;
  int64_t low, high;
} planish_symbol_range;

/* ---- plans: what straight code cannot do (docs/HOST.md) ---- */
typedef struct planish_host planish_host;     /* native/host.h */
typedef struct planish_object planish_object; /* native/object.h: a reference-counted value of any kind */
typedef struct planish_step planish_step;
typedef struct planish_plan planish_plan;

/* A tensor, or strings, in the artifact. */
typedef struct planish_constant {
  const char *dtype; /* element type; "string" */
  int32_t rank, padding;
  const int64_t *dims;
  const void *data;        /* row-major, little endian, aligned to the element; strings: const char *const *; NULL: the
                              elements stand at weights + offset */
  uint64_t offset;
  const uint64_t *lengths; /* strings only: the bytes of each */
} planish_constant;

#define PLANISH_ATTRIBUTE_INTS 0
#define PLANISH_ATTRIBUTE_FLOATS 1
#define PLANISH_ATTRIBUTE_STRINGS 2
#define PLANISH_ATTRIBUTE_TENSOR 3
typedef struct planish_attribute {
  const char *name;
  int32_t kind;            /* PLANISH_ATTRIBUTE_* */
  uint32_t count;          /* numbers or strings; 1 for a tensor */
  const void *data;        /* const int64_t *, const double *, const char *const *, const planish_constant * */
  const uint64_t *lengths; /* strings only: the bytes of each */
} planish_attribute;

#define PLANISH_STEP_RUN 0      /* target: const planish_module *: an island */
#define PLANISH_STEP_CALL 1     /* target: planish_host_function * */
#define PLANISH_STEP_IF 2       /* target: const planish_plan *const [2]: then, otherwise */
#define PLANISH_STEP_LOOP 3     /* target: const planish_plan *const [1]: the body */
#define PLANISH_STEP_CONSTANT 4 /* target: const planish_constant *; NULL: the absent value */
/* `in` and `out` are slots, -1: absent (an `in` that is not given, an `out` that nobody wants).
 *   run   in = the island's inputs, out = its outputs
 *   call  as the function says
 *   if    in = condition, captures...; both plans have the captures as parameters; out = their results
 *   loop  in = limit, condition, carried..., captures...; the body's parameters are round (i64 scalar), carried...,
 *         captures...; its results are go on (bool), carried..., scanned...; out = carried..., scanned... The attribute
 *         "carried" (one integer) is the number of carried values. */
struct planish_step {
  int32_t code; /* PLANISH_STEP_* */
  int32_t node; /* named in errors, of the module that has the outermost plan; -1: none */
  uint32_t n_in, n_out;
  const int32_t *in, *out;
  const void *target;
  uint32_t n_attributes, padding;
  const planish_attribute *attributes;
  uint32_t n_free, padding2;
  const int32_t *free; /* slots whose last use this step is, results of the plan excluded */
};

/* Slots hold values; `params` says where each parameter goes (-1: nobody wants it). A slot is written once only, and read
 * after that. What is not freed by then is freed at the end. */
struct planish_plan {
  uint32_t n_slots, n_params, n_results, n_steps;
  const int32_t *params, *results; /* results: -1 is the absent value */
  const planish_step *steps;
};

/* Makes `out` (n_out of them, NULL at entry, a reference each) from `in` (n_in; NULL: absent). Returns 0, or a status
 * after planish_host_fail. */
typedef int32_t planish_host_function(planish_host *host, const planish_step *step, planish_object *const *in,
                                      planish_object **out);

/* What a model keeps from run to run: an input that is what the output of the same place was in the run before, of fixed
 * shape. `initial` is what it is at first, NULL for zeros. */
typedef struct planish_state {
  uint64_t bytes;
  const void *initial;
} planish_state;

/* Describes one compiled model. The generated objects define exactly one of global name: `planish_module_data`; or
 * `planish_level_0`, `planish_level_1` ... for several levels of CPUs, best first: whole modules over the same weights,
 * that differ in features, code and what the manifest says of these.
 *
 * A model with inputs of unknown rank has one variant for each assignment of ranks, and more, in front of it, for sizes
 * that were asked for: these have numbers where that one has symbols. Then `run` and `sizes` are NULL, and each of the
 * `variants` is a whole module over the same weights, with the same symbols, names and element types, without variants,
 * features, manifest, ranges and self-test of its own. Ranks that differ between variants are -1 here. The first variant
 * runs whose ranks and numbers are those of all inputs.
 *
 * A model that needs a plan has `plan`, whose parameters are the inputs and whose results the outputs, and `run` and
 * `sizes` are NULL. Symbols that inputs do not bind are known after the run only: outputs that have them, or rank -1,
 * have no shape before it. Islands are modules of their own, over the same weights, with names, types and nodes of
 * their own, without features, manifest and self-test; they may have variants. */
struct planish_module {
  uint32_t abi_version, n_inputs, n_outputs, n_symbols; /* abi_version = PLANISH_ABI_VERSION */
  const planish_io_spec *inputs, *outputs;
  const char *const *symbols;    /* names */
  int32_t (*run)(planish_env *); /* 0, or a nonzero status after planish_fail*() */
  /* sizes[0] = arena bytes, sizes[1] = scratch bytes per worker, then the dimensions of all outputs, flattened, in
   * order. Reads only `symbols`. A negative size means: too large. */
  void (*sizes)(const int64_t *symbols, int64_t *sizes);
  uint32_t n_nodes; /* followed by 4 bytes of padding */
  const char *const *nodes;
  uint32_t n_features; /* followed by 4 bytes of padding */
  const char *const *features; /* CPU features that the code needs, LLVM names: "avx2", "fma", "avx512f" ... */
  uint64_t weights_bytes;
  const char *manifest; /* JSON, see runtime/manifest.py */
  uint64_t manifest_bytes;
  const planish_selftest *selftest; /* may be NULL */
  uint32_t n_variants, n_refusals;
  const planish_module *const *variants;
  const planish_refusal *refusals;
  uint32_t n_bindings, n_checks;
  const planish_binding *bindings;
  const planish_check *checks;
  /* The number of the first check that does not hold, with the value of its expression in *value; or -1. May be NULL
   * when there are no checks. Reads only `symbols`. */
  int32_t (*check)(const int64_t *symbols, int64_t *value);
  const planish_plan *plan; /* NULL for ordinary models */
  uint32_t n_ranges; /* checked when dimensions of inputs have bound their symbols; of the whole model only */
  uint32_t n_states; /* the last inputs and outputs, in the same order; of the whole model only */
  const planish_symbol_range *ranges;
  const planish_state *states;
};

extern const planish_module planish_module_data; /* where there is one level */

#ifdef __cplusplus
}
#endif
#endif
