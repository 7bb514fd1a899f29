/* A hand-written stand-in for generated code: everything that the interface has, in a model of ten lines.
 *
 *   y[n,c] = x[n,c] * table[index[n], c]        f32[N,4], table = the first 128 bytes of the weights
 *   total  = sum of y, last = last float of the weights (both f32[])
 *
 * Compiled with -DFAKE_WEIGHTS=bytes, and -DFAKE_FEATURES='"avx512f"' to ask for CPU features.
 */
#include "planish_abi.h"

#ifndef FAKE_WEIGHTS
#define FAKE_WEIGHTS 128
#endif
#ifndef FAKE_FEATURES
#define FAKE_FEATURES "sse2"
#endif
#ifndef FAKE_ARENA_PER_ROW
#define FAKE_ARENA_PER_ROW 16
#endif

enum { ROWS = 8, COLUMNS = 4 };

static int32_t rows(planish_env *env, void *const *buffers, const int64_t *args, int64_t begin, int64_t end,
                    int32_t worker) {
  const float *x = buffers[0], *table = (const float *)env->weights;
  const int64_t *index = buffers[1];
  float *y = (float *)env->arena, *row = (float *)(env->scratch + worker * env->scratch_stride);
  for (int64_t n = begin; n < end; n++) {
    if (index[n] < 0 || index[n] >= args[0]) return planish_fail_index(env, 1, index[n], 0, args[0]);
    for (int c = 0; c < COLUMNS; c++) row[c] = table[index[n] * COLUMNS + c];
    for (int c = 0; c < COLUMNS; c++) y[n * COLUMNS + c] = x[n * COLUMNS + c] * row[c];
  }
  return 0;
}

static int32_t run(planish_env *env) {
  int64_t count = env->symbols[0], args[1] = {ROWS};
  int32_t status = planish_parallel(env, rows, (void *const *)env->inputs, args, count, 2);
  if (status) return status;
  const float *from = (const float *)env->arena;
  float *to = env->outputs[0], total = 0;
  for (int64_t i = 0; i < count * COLUMNS; i++) {
    to[i] = from[i];
    total += from[i];
  }
  *(float *)env->outputs[1] = total;
  *(float *)env->outputs[2] = FAKE_WEIGHTS ? *(const float *)(env->weights + (uint64_t)FAKE_WEIGHTS - 4) : 0;
  return 0;
}

static void sizes(const int64_t *symbols, int64_t *out) {
  if (__builtin_mul_overflow(symbols[0], (int64_t)FAKE_ARENA_PER_ROW, &out[0])) out[0] = -1;
  out[1] = COLUMNS * sizeof(float);
  out[2] = symbols[0];
  out[3] = COLUMNS;
}

static const int64_t x_dims[] = {-1, COLUMNS}, index_dims[] = {-1};
static const planish_io_spec inputs[] = {{"x", "f32", 2, x_dims}, {"index", "i64", 1, index_dims}};
static const planish_io_spec outputs[] = {{"y", "f32", 2, x_dims}, {"total", "f32", 0, 0}, {"last", "f32", 0, 0}};
static const char *const symbols[] = {"N"};
static const char *const nodes[] = {"scale", "gather/rows \"quoted\"\n"};
static const char *const features[] = {FAKE_FEATURES};
static const char manifest[] =
    "{\"format\": 1, \"name\": \"fake\", \"symbols\": [\"N\"],"
    " \"inputs\": [{\"name\": \"x\", \"dtype\": \"f32\", \"shape\": [\"N\", 4]},"
    " {\"name\": \"index\", \"dtype\": \"i64\", \"shape\": [\"N\"]}],"
    " \"outputs\": [{\"name\": \"y\", \"dtype\": \"f32\", \"shape\": [\"N\", 4]},"
    " {\"name\": \"total\", \"dtype\": \"f32\", \"shape\": []}, {\"name\": \"last\", \"dtype\": \"f32\", \"shape\": []}]}";

/* The self-test is for weights that are 0, 1, 2 ... as floats; with other weights it must fail. */
static const int64_t test_symbols[] = {3};
static const double test_ranges[] = {0, 1, 2, 2}, test_sums[] = {__builtin_nan(""), 0, __builtin_nan(""), 0,
                                                                  FAKE_WEIGHTS / 4 - 1, FAKE_WEIGHTS / 4 - 1};
static const planish_selftest_sample samples[] = {{2, 0, 0, FAKE_WEIGHTS / 4 - 1}};
static const planish_selftest selftest = {7, test_symbols, test_ranges, test_sums, 1e-6, 1e-6, 1, samples};

const planish_module planish_module_data = {
    PLANISH_ABI_VERSION, 2, 3, 1, inputs, outputs, symbols, run, sizes, 2, nodes,
    sizeof features / sizeof *features, features, FAKE_WEIGHTS, manifest,
    sizeof manifest - 1, &selftest};
