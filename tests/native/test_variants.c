/* Models with inputs of unknown rank, hand-written: y = x in any shape, for x of rank 1 and 2. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "internal.h"

void test_variants(void);

static int32_t run1(planish_env *env) {
  memcpy(env->outputs[0], env->inputs[0], (size_t)env->symbols[0] * 4);
  return 0;
}

static int32_t run2(planish_env *env) {
  memcpy(env->outputs[0], env->inputs[0], (size_t)env->symbols[0] * 12);
  return 0;
}

static void sizes1(const int64_t *symbols, int64_t *sizes) { sizes[0] = sizes[1] = 0, sizes[2] = symbols[0]; }

static void sizes2(const int64_t *symbols, int64_t *sizes) {
  sizes1(symbols, sizes);
  sizes[3] = 3;
}

static const char *const symbols[] = {"x_0"};
static const int64_t dims[] = {-1, 3};
static const planish_io_spec x1[] = {{"x", "f32", 1, dims}}, x2[] = {{"x", "f32", 2, dims}},
                             y1[] = {{"y", "f32", 1, dims}}, y2[] = {{"y", "f32", 2, dims}},
                             x[] = {{"x", "f32", -1, NULL}}, y[] = {{"y", "f32", -1, NULL}};
static const planish_module rank1 = {PLANISH_ABI_VERSION, 1, 1, 1, x1, y1, symbols, .run = run1, .sizes = sizes1},
                            rank2 = {PLANISH_ABI_VERSION, 1, 1, 1, x2, y2, symbols, .run = run2, .sizes = sizes2};
static const planish_module *const variants[] = {&rank1, &rank2};
static const int32_t zero[] = {0};
static const planish_refusal refusals[] = {{zero, "it has no dimension"}};
static const planish_module whole = {PLANISH_ABI_VERSION, 1, 1, 1, x, y, symbols, .n_variants = 2, .n_refusals = 1,
                                     .variants = variants, .refusals = refusals};

static planish_tensor tensor(float *data, int32_t rank, int64_t *shape) {
  return (planish_tensor){data, {1, 0}, rank, {2, 32, 1}, shape, NULL, 0};
}

static void check_run(planish_context *context, float *data, int32_t rank, int64_t *shape, int64_t count) {
  planish_tensor in = tensor(data, rank, shape), out;
  CHECK(planish_set_input(context, 0, &in) == PLANISH_OK && planish_invoke(context) == PLANISH_OK);
  CHECK(planish_output_rank(context, 0) == rank && planish_get_output(context, 0, &out) == PLANISH_OK);
  CHECK(out.ndim == rank && !memcmp(out.shape, shape, (size_t)rank * 8) && !memcmp(out.data, data, (size_t)count * 4));
}

static void check_refused(planish_context *context, int32_t rank, int64_t *shape, const char *message) {
  float data[64] = {0};
  planish_tensor in = tensor(data, rank, shape);
  planish_status status = planish_set_input(context, 0, &in);
  if (!status) status = planish_invoke(context);
  CHECK(status == PLANISH_INVALID_ARGUMENT && !strcmp(planish_context_error(context), message));
}

/* A version for two rows in front of the general program, which takes one to four: they say who ran. */
static int32_t run_version(planish_env *env) {
  ((float *)env->outputs[0])[0] = 100;
  return 0;
}

static int32_t run_general(planish_env *env) {
  ((float *)env->outputs[0])[0] = (float)env->symbols[0];
  return 0;
}

static void sizes_one(const int64_t *values, int64_t *sizes) {
  (void)values;
  sizes[0] = sizes[1] = 0;
  sizes[2] = 1;
}

static void check_versions(void) {
  static const int64_t two[] = {2, 3}, any[] = {-1, 3}, one[] = {1};
  static const planish_io_spec in2[] = {{"x", "f32", 2, two}}, in[] = {{"x", "f32", 2, any}}, out[] = {{"y", "f32", 1, one}};
  static const planish_module version = {PLANISH_ABI_VERSION, 1, 1, 1, in2, out, symbols, .run = run_version, .sizes = sizes_one},
                              general = {PLANISH_ABI_VERSION, 1, 1, 1, in, out, symbols, .run = run_general, .sizes = sizes_one};
  static const planish_module *const both[] = {&version, &general};
  static const planish_symbol_range ranges[] = {{0, 0, 1, 4}};
  static const planish_module all = {PLANISH_ABI_VERSION, 1, 1, 1, in, out, symbols, .n_variants = 2, .variants = both,
                                     .n_ranges = 1, .ranges = ranges};
  const planish_model model = {.abi_version = PLANISH_ABI_VERSION, .module = &all, .name = "versions"};
  planish_context *context;
  planish_message message;
  float data[15] = {0};
  CHECK(planish_context_create(&model, NULL, 1, &context, &message) == PLANISH_OK);
  for (int64_t rows = 1; rows <= 4; rows++) {
    planish_tensor x_in = tensor(data, 2, (int64_t[]){rows, 3}), y_out;
    CHECK(planish_set_input(context, 0, &x_in) == PLANISH_OK && planish_invoke(context) == PLANISH_OK);
    CHECK(planish_get_output(context, 0, &y_out) == PLANISH_OK);
    CHECK(*(float *)y_out.data == (rows == 2 ? 100 : (float)rows));
  }
  check_refused(context, 2, (int64_t[]){5, 3},
                "input 'x': dimension 0, which is 'x_0': expected 1 to 4, for which the model was compiled, got 5");
  check_refused(context, 2, (int64_t[]){2, 4}, "input 'x': shape: expected [x_0,3], got [2,4]");
  planish_context_destroy(context);
}

void test_variants(void) {
  const planish_model model = {.abi_version = PLANISH_ABI_VERSION, .module = &whole, .name = "variants"};
  planish_context *context;
  planish_message message;
  planish_io io;
  float data[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, room[12];
  int64_t many[40] = {0};
  CHECK(planish_input_info(&model, 0, &io) == PLANISH_OK && io.rank == -1 && !io.dims);
  CHECK(planish_context_create(&model, NULL, 1, &context, &message) == PLANISH_OK);
  CHECK(planish_invoke(context) == PLANISH_NOT_READY && planish_output_rank(context, 0) == -1);
  check_run(context, data, 1, (int64_t[]){7}, 7);
  check_run(context, data, 2, (int64_t[]){4, 3}, 12);
  check_run(context, data, 1, (int64_t[]){4}, 4); /* the same first dimension as before */
  check_refused(context, 0, many, "input 'x': rank: expected one of 1 2, got 0: it has no dimension");
  check_refused(context, 3, many, "input 'x': rank: expected one of 1 2, got 3");
  check_refused(context, 40, many, "input 'x': rank: expected one of 1 2, got 40");
  check_refused(context, -1, many, "input 'x': rank: expected one of 1 2, got -1");
  check_refused(context, 2, (int64_t[]){4, 2}, "input 'x': shape: expected [x_0,3], got [4,2]");
  planish_tensor out = tensor(room, 1, (int64_t[]){4}), deep = tensor(room, 33, many);
  CHECK(planish_set_output(context, 0, &deep) == PLANISH_INVALID_ARGUMENT);
  CHECK(planish_set_output(context, 0, &out) == PLANISH_OK);
  check_run(context, data, 1, (int64_t[]){4}, 4);
  CHECK(!memcmp(room, data, 16));
  check_refused(context, 2, (int64_t[]){4, 3}, "output 'y': rank of the buffer: expected 2, got 1");
  planish_context_destroy(context);
  check_versions();
}
