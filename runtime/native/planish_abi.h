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

#define PLANISH_ABI_VERSION 2u

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

/* Split [0, count) statically into at most count/grain parts, one per thread of the pool (the caller is worker 0),
 * and wait for all of them. Returns 0, or a nonzero status of one of the parts. `buffers` and `args` are passed on
 * untouched. Not to be called from inside a task. */
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

/* Data type names: bool i4 u4 i8 u8 i16 u16 i32 u32 i64 u64 f16 bf16 f32 f64 c64 c128
 * f8e4m3fn f8e4m3fnuz f8e5m2 f8e5m2fnuz f8e8m0 f4e2m1 string.
 * bool is one byte, 0 or 1. 4-bit elements are packed two in a byte, the first in the low half. */
typedef struct planish_io_spec {
  const char *name;
  const char *dtype;
  int32_t rank;        /* -1: known per variant only; then dims is NULL */
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

/* Describes one compiled model. The generated objects define exactly one of global name: `planish_module_data`; or
 * `planish_level_0`, `planish_level_1` ... for several levels of CPUs, best first: whole modules over the same weights,
 * that differ in features, code and what the manifest says of these.
 *
 * A model with inputs of unknown rank has one variant for each assignment of ranks. Then `run` and `sizes` are NULL, and
 * each of the `variants` is a whole module over the same weights, with the same symbols, names and element types, without
 * variants, features, manifest and self-test of its own. Ranks that differ between variants are -1 here. */
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
};

extern const planish_module planish_module_data; /* where there is one level */

#ifdef __cplusplus
}
#endif
#endif
