/* Plans, hand-written: islands, host functions, branches, loops, limits, and values of every kind across the interface. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "host.h"

void test_plan(void);

#define SLOTS(...) ((const int32_t[]){__VA_ARGS__})
#define COUNT(...) (sizeof(SLOTS(__VA_ARGS__)) / sizeof(int32_t))
#define IN(...) .n_in = COUNT(__VA_ARGS__), .in = SLOTS(__VA_ARGS__)
#define OUT(...) .n_out = COUNT(__VA_ARGS__), .out = SLOTS(__VA_ARGS__)
#define FREE(...) .n_free = COUNT(__VA_ARGS__), .free = SLOTS(__VA_ARGS__)
#define ATTRIBUTES(...)                                                                       \
  .n_attributes = sizeof((const planish_attribute[]){__VA_ARGS__}) / sizeof(planish_attribute), \
  .attributes = (const planish_attribute[]){__VA_ARGS__}
#define INTS(NAME, ...) {NAME, 0, sizeof((const int64_t[]){__VA_ARGS__}) / 8, (const int64_t[]){__VA_ARGS__}, NULL}

/* ---- an island: y[n] = 2 * x[n], f32, with an arena ---- */
static int32_t double_run(planish_env *env) {
  const float *x = env->inputs[0];
  float *arena = (float *)env->arena, *y = env->outputs[0];
  for (int64_t i = 0; i < env->symbols[0]; i++) arena[i] = x[i] + x[i];
  for (int64_t i = 0; i < env->symbols[0]; i++) y[i] = arena[i];
  return 0;
}
static void double_sizes(const int64_t *symbols, int64_t *sizes) {
  sizes[0] = symbols[0] * 4, sizes[1] = 0, sizes[2] = symbols[0];
}
static const int64_t n_dims[] = {-1};
static const planish_io_spec x_n[] = {{"x", "f32", 1, n_dims}}, y_n[] = {{"y", "f32", 1, n_dims}};
static const char *const n_symbol[] = {"?n0"}, *const nodes[] = {"zero", "one", "two", "three"};
static const planish_module doubling = {PLANISH_ABI_VERSION, 1, 1, 1, x_n, y_n, n_symbol, double_run, double_sizes, 4, nodes};

/* ---- an island with a binding and checks: y = iota(n), n = the contents of a scalar; n is even and at most 10 ---- */
static int32_t iota_run(planish_env *env) {
  for (int64_t i = 0; i < env->symbols[0]; i++) ((int64_t *)env->outputs[0])[i] = i;
  return 0;
}
static void iota_sizes(const int64_t *symbols, int64_t *sizes) { sizes[0] = sizes[1] = 0, sizes[2] = symbols[0]; }
static int32_t iota_check(const int64_t *symbols, int64_t *value) {
  if ((*value = symbols[0] % 2) != 0) return 0;
  if ((*value = 10 - symbols[0]) < 0) return 1;
  return -1;
}
static const planish_io_spec count_in[] = {{"count", "i64", 0, NULL}}, iota_out[] = {{"y", "i64", 1, n_dims}};
static const planish_binding bindings[] = {{0, 2, 0, 0, PLANISH_BINDING_SIZE}};
static const uint32_t zeroth[] = {0};
static const planish_check checks[] = {{3, 0, "odd", "n mod 2", 1, 0, zeroth}, {-1, 1, "too many", NULL, 1, 0, zeroth}};
static const planish_module iota = {PLANISH_ABI_VERSION, 1, 1, 1, count_in, iota_out, n_symbol, iota_run, iota_sizes, 4, nodes,
                                    .n_bindings = 1, .n_checks = 2, .bindings = bindings, .checks = checks, .check = iota_check};

/* ---- host functions of this test ---- */
static int32_t positive(planish_host *host, const planish_step *step, planish_object *const *in, planish_object **out) {
  const planish_object *x = planish_tensor_operand(host, in, 0, "f32");
  int64_t count = 0;
  (void)step;
  if (!x) return PLANISH_FAILED;
  for (int64_t i = 0; i < x->count; i++) count += ((const float *)x->data)[i] > 0;
  out[0] = planish_host_like(host, x, 1, &count);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < x->count; i++)
    if (((const float *)x->data)[i] > 0 && planish_put(host, out[0], x, i, 1)) return PLANISH_FAILED;
  return 0;
}
static int32_t add_one(planish_host *host, const planish_step *step, planish_object *const *in, planish_object **out) {
  int64_t value;
  (void)step;
  if (!planish_integer(host, in, 0, &value)) return PLANISH_FAILED;
  return (out[0] = planish_host_i64(host, value + 1)) ? 0 : PLANISH_OUT_OF_MEMORY;
}
static int32_t below(planish_host *host, const planish_step *step, planish_object *const *in, planish_object **out) {
  int64_t value;
  if (!planish_integer(host, in, 0, &value)) return PLANISH_FAILED;
  return (out[0] = planish_host_bool(host, value < planish_int_attribute(step, "limit", 0))) ? 0 : PLANISH_OUT_OF_MEMORY;
}
static int32_t nothing(planish_host *host, const planish_step *step, planish_object *const *in, planish_object **out) {
  (void)host, (void)step;
  for (uint32_t i = 0; i < step->n_out; i++) out[i] = planish_retain(in[i]);
  return 0;
}

static planish_context *open_module(planish_model *model, const planish_module *module) {
  planish_context *context;
  planish_message message;
  *model = (planish_model){.abi_version = PLANISH_ABI_VERSION, .module = module, .name = "plan"};
  CHECK(planish_context_create(model, NULL, 1, &context, &message) == PLANISH_OK);
  return context;
}

static void expect(planish_context *context, planish_status status, planish_status wanted, const char *text) {
  if (status == wanted && !strcmp(planish_context_error(context), text)) return;
  fprintf(stderr, "expected %d '%s', got %d '%s'\n", wanted, text, status, planish_context_error(context));
  exit(1);
}

/* x -> positive -> double -> y; shapes are known after the run only. */
static const planish_step simple_steps[] = {
    {PLANISH_STEP_CALL, 1, IN(0), OUT(1), .target = positive, FREE(0)},
    {PLANISH_STEP_RUN, 2, IN(1), OUT(2), .target = &doubling, FREE(1)},
};
static const planish_plan simple_plan = {3, 1, 1, 2, SLOTS(0), SLOTS(2), simple_steps};
static const char *const two_symbols[] = {"N", "?n0"};
static const int64_t second_dims[] = {-2};
static const planish_io_spec simple_out[] = {{"y", "f32", 1, second_dims}};
static const planish_module simple = {PLANISH_ABI_VERSION, 1, 1, 2, x_n, simple_out, two_symbols, NULL, NULL, 4, nodes,
                                      .plan = &simple_plan};

static planish_tensor f32(float *data, int64_t *shape) {
  return (planish_tensor){data, {1, 0}, 1, {2, 32, 1}, shape, NULL, 0};
}

static void test_simple(void) {
  planish_model model;
  planish_context *context = open_module(&model, &simple);
  float data[4] = {1, -2, 3, 4}, room[4];
  int64_t shape[1] = {4}, small[1] = {3};
  planish_tensor x = f32(data, shape), y, out = f32(room, small);
  planish_managed_tensor *taken;
  CHECK(planish_invoke(context) == PLANISH_NOT_READY);
  CHECK(planish_set_input(context, 0, &x) == PLANISH_OK && planish_infer_shapes(context) == PLANISH_OK);
  CHECK(planish_output_shape(context, 0)[0] == -1 && planish_output_rank(context, 0) == 1);
  for (int run = 0; run < 3; run++) {
    data[1] = (float)run - 1;
    CHECK(planish_invoke(context) == PLANISH_OK && planish_get_output(context, 0, &y) == PLANISH_OK);
    CHECK(y.ndim == 1 && y.shape[0] == (run == 2 ? 4 : 3) && ((float *)y.data)[0] == 2 && planish_output_shape(context, 0)[0] == y.shape[0]);
  }
  CHECK(planish_take_output(context, 0, &taken) == PLANISH_OK);
  data[1] = -1;
  CHECK(planish_set_output(context, 0, &out) == PLANISH_OK && planish_invoke(context) == PLANISH_OK && room[2] == 8);
  data[1] = 1;
  expect(context, planish_invoke(context), PLANISH_INVALID_ARGUMENT, "output 'y': shape of the buffer: expected [4], got [3]");
  CHECK(planish_set_output(context, 0, NULL) == PLANISH_OK && planish_get_output(context, 0, &y) == PLANISH_NOT_READY);
  CHECK(planish_context_set_limits(context, 5000, 0) == PLANISH_OK);
  expect(context, planish_invoke(context), PLANISH_OUT_OF_MEMORY,
         "node 'two': no memory for this call: 16 bytes of arena, 0 bytes for each of 1 threads within the limit of this context");
  CHECK(planish_context_set_limits(context, 100000, 100) == PLANISH_OK && planish_invoke(context) == PLANISH_OK);
  planish_context_cancel(context);
  expect(context, planish_invoke(context), PLANISH_CANCELLED, "the run was cancelled");
  CHECK(planish_invoke(context) == PLANISH_OK); /* it does not stick */
  planish_context_destroy(context);
  CHECK(taken->tensor.shape[0] == 4 && ((float *)taken->tensor.data)[3] == 8 && (uintptr_t)taken->tensor.data % 64 == 0);
  taken->deleter(taken);
}

static void test_bindings(void) { /* without a plan */
  planish_model model;
  planish_context *context = open_module(&model, &iota);
  int64_t count = 4;
  planish_tensor in = {&count, {1, 0}, 0, {0, 64, 1}, NULL, NULL, 0}, out;
  CHECK(planish_set_input(context, 0, &in) == PLANISH_OK);
  for (count = 0; count <= 10; count += 2) {
    CHECK(planish_invoke(context) == PLANISH_OK && planish_get_output(context, 0, &out) == PLANISH_OK);
    CHECK(out.shape[0] == count && (!count || ((int64_t *)out.data)[count - 1] == count - 1));
  }
  count = 3;
  expect(context, planish_invoke(context), PLANISH_INVALID_ARGUMENT, "node 'three': odd: n mod 2: expected 0, got 1 (?n0 = 3)");
  count = 12;
  expect(context, planish_invoke(context), PLANISH_INVALID_ARGUMENT, "too many: expected 0 or more, got -2 (?n0 = 12)");
  count = -2;
  expect(context, planish_invoke(context), PLANISH_FAILED, "node 'two': input 'count': element 0 is a size: expected 0 or more, got -2");
  planish_context_destroy(context);
}

/* i = start; while i < 5 (at most `limit` rounds): i += 1, scan i, sequence of doubled xs; if i < 3 then a else b */
static const planish_step body_steps[] = {
    {PLANISH_STEP_CALL, 0, IN(1), OUT(4), .target = add_one, FREE(1)},
    {PLANISH_STEP_CALL, 0, IN(4), OUT(5), .target = below, ATTRIBUTES(INTS("limit", 5))},
    {PLANISH_STEP_RUN, 0, IN(3), OUT(6), .target = &doubling},
    {PLANISH_STEP_CALL, 0, IN(0), OUT(7), .target = nothing},
};
/* slots: 0 round, 1 i, 2 unused, 3 captured x */
static const planish_plan body = {8, 3, 4, 4, SLOTS(0, 1, 3), SLOTS(5, 4, 7, 6), body_steps};
static const planish_plan *const bodies[] = {&body};
static const planish_plan then_plan = {1, 2, 1, 0, SLOTS(0, -1), SLOTS(0), NULL},
                          else_plan = {1, 2, 1, 0, SLOTS(-1, 0), SLOTS(0), NULL};
static const planish_plan *const branches[] = {&then_plan, &else_plan};
static const char *const scan_types[] = {"i64", "f32"};
static const planish_attribute loop_attributes[] = {INTS("carried", 1), {"scanned", 2, 2, scan_types, (const uint64_t[]){3, 3}},
                                                    {"dims0", 0, 0, NULL, NULL}, INTS("dims1", -1)};
static const int64_t ten[] = {10, 20, 30};
static const char *const words[] = {"a", "b\0c", ""};
static const planish_constant numbers = {"i64", 1, 0, (const int64_t[]){3}, ten, 0, NULL},
                              texts = {"string", 2, 0, (const int64_t[]){3, 1}, words, 0, (const uint64_t[]){1, 3, 0}};
/* in: 0 limit, 1 start, 2 x; out: 3 last i, 4 rounds, 5 doubled, 7 chosen, 8 strings, 9 absent */
static const planish_step loop_steps[] = {
    {PLANISH_STEP_LOOP, 3, IN(0, -1, 1, 2), OUT(3, 4, 5), .target = bodies, .n_attributes = 4, .attributes = loop_attributes},
    {PLANISH_STEP_CALL, 0, IN(3), OUT(6), .target = below, ATTRIBUTES(INTS("limit", 3))},
    {PLANISH_STEP_CONSTANT, 0, OUT(10), .target = &numbers},
    {PLANISH_STEP_IF, 1, IN(6, 3, 10), OUT(7), .target = branches, FREE(6, 10)},
    {PLANISH_STEP_CONSTANT, 0, OUT(8), .target = &texts},
    {PLANISH_STEP_CONSTANT, 0, OUT(9), .target = NULL},
};
static const planish_plan loop_plan = {11, 3, 6, 6, SLOTS(0, 1, 2), SLOTS(3, 4, 5, 7, 8, 9), loop_steps};
static const planish_io_spec loop_in[] = {{"limit", "i64", 0, NULL}, {"start", "i64", 0, NULL}, {"x", "f32", 1, n_dims}};
static const planish_io_spec loop_out[] = {{"last", "i64", 0, NULL},  {"rounds", "i64", 1, second_dims}, {"doubled", "f32", -1, NULL},
                                           {"chosen", "i64", -1, NULL}, {"texts", "string", 2, second_dims}, {"no", "optional<f32>", -1, NULL}};
static const planish_module looping = {PLANISH_ABI_VERSION, 3, 6, 2, loop_in, loop_out, two_symbols, NULL, NULL, 4, nodes, .plan = &loop_plan};

static void test_loop(void) {
  planish_model model;
  planish_context *context = open_module(&model, &looping);
  int64_t limit = 100, start = 0, shape[1] = {2};
  float data[2] = {1.5f, 2};
  planish_tensor in[3] = {{&limit, {1, 0}, 0, {0, 64, 1}, NULL, NULL, 0}, {&start, {1, 0}, 0, {0, 64, 1}, NULL, NULL, 0}, f32(data, shape)};
  planish_value out;
  for (int i = 0; i < 3; i++) CHECK(planish_set_input(context, i, &in[i]) == PLANISH_OK);
  for (start = 0; start < 5; start++)
    for (limit = 0; limit < 7; limit++) {
      int64_t rounds = limit < 5 - start ? limit : 5 - start, last = start + rounds;
      CHECK(planish_invoke(context) == PLANISH_OK);
      CHECK(planish_get_output_value(context, 0, &out) == PLANISH_OK && *(int64_t *)out.as.tensor.data == last);
      CHECK(planish_get_output_value(context, 1, &out) == PLANISH_OK && out.as.tensor.shape[0] == rounds);
      for (int64_t r = 0; r < rounds; r++) CHECK(((int64_t *)out.as.tensor.data)[r] == r);
      CHECK(planish_get_output_value(context, 2, &out) == PLANISH_OK && out.as.tensor.ndim == 2 && out.as.tensor.shape[0] == rounds);
      CHECK(out.as.tensor.shape[1] == (rounds ? 2 : 0) && (!rounds || ((float *)out.as.tensor.data)[0] == 3));
      CHECK(planish_get_output_value(context, 3, &out) == PLANISH_OK && out.as.tensor.ndim == (last < 3 ? 0 : 1));
      CHECK(*(int64_t *)out.as.tensor.data == (last < 3 ? last : 10));
    }
  CHECK(planish_get_output_value(context, 4, &out) == PLANISH_OK && out.kind == PLANISH_STRINGS && out.as.strings.shape[1] == 1);
  CHECK(out.as.strings.lengths[1] == 3 && !memcmp(out.as.strings.data[1], "b\0c", 4) && out.as.strings.lengths[2] == 0);
  CHECK(planish_get_output_value(context, 5, &out) == PLANISH_OK && out.kind == PLANISH_ABSENT);
  planish_tensor tensor;
  CHECK(planish_get_output(context, 4, &tensor) == PLANISH_INVALID_ARGUMENT);
  planish_context_destroy(context);
}

/* An endless loop ends by time, by another thread, by the caller's question. */
static const planish_step forever_steps[] = {{PLANISH_STEP_LOOP, 1, IN(-1, -1), .n_out = 0, .target = (const planish_plan *const[]){&(const planish_plan){1, 1, 1, 0, SLOTS(-1), SLOTS(-1), NULL}},
                                              ATTRIBUTES(INTS("carried", 0))}};
static const planish_plan forever_plan = {0, 0, 0, 1, NULL, NULL, forever_steps};
static const planish_module forever = {PLANISH_ABI_VERSION, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 4, nodes, .plan = &forever_plan};

static void *cancel_soon(void *context) {
  usleep(20000);
  planish_context_cancel(context);
  return NULL;
}
static int32_t stop(void *data) { return ++*(int *)data >= 2; }

static void test_limits(void) {
  planish_model model;
  planish_context *context = open_module(&model, &forever);
  pthread_t thread;
  int asked = 0;
  CHECK(planish_context_set_limits(context, 0, 0.02) == PLANISH_OK);
  expect(context, planish_invoke(context), PLANISH_CANCELLED, "the run took longer than the 0.02 seconds that it may take");
  CHECK(planish_context_set_limits(context, 0, 0) == PLANISH_OK && planish_context_set_limits(context, -1, 0) == PLANISH_INVALID_ARGUMENT);
  CHECK(planish_context_set_limits(context, 0, (double)NAN) == PLANISH_INVALID_ARGUMENT);
  CHECK(!pthread_create(&thread, NULL, cancel_soon, context));
  expect(context, planish_invoke(context), PLANISH_CANCELLED, "the run was cancelled");
  pthread_join(thread, NULL);
  planish_context_set_poll(context, stop, &asked);
  expect(context, planish_invoke(context), PLANISH_CANCELLED, "the run was cancelled");
  CHECK(asked == 2);
  planish_context_destroy(context);
}

/* ---- values of every kind, in and out unchanged ---- */
static const planish_step same_steps[] = {{PLANISH_STEP_CALL, 0, IN(0, 1, 2, 3), OUT(4, 5, 6, 7), .target = nothing, FREE(0, 1, 2, 3)}};
static const planish_plan same_plan = {8, 4, 4, 1, SLOTS(0, 1, 2, 3), SLOTS(4, 5, 6, 7), same_steps};
static const planish_io_spec same_in[] = {{"s", "string", 1, n_dims}, {"q", "seq<f32[*]>", -1, NULL}, {"m", "map<string,f32>", -1, NULL}, {"o", "optional<seq<string[2]>>", -1, NULL}};
static const planish_module same = {PLANISH_ABI_VERSION, 4, 4, 1, same_in, same_in, n_symbol, NULL, NULL, 4, nodes, .plan = &same_plan};

static void test_value_kinds(void) {
  planish_model model;
  planish_context *context = open_module(&model, &same);
  int64_t two[1] = {2}, zero[2] = {0, 7};
  const char *const data[] = {"x", "\xc3\xa4\0z"};
  const uint64_t lengths[] = {1, 4};
  float numbers_of[2] = {1, 2};
  planish_value strings = {.kind = PLANISH_STRINGS, .as.strings = {data, lengths, two, 1}}, tensor = {.kind = PLANISH_TENSOR, .as.tensor = f32(numbers_of, two)};
  planish_value items[2] = {tensor, tensor}, plain = {.kind = PLANISH_STRINGS, .as.strings = {data, NULL, two, 1}}, absent = {.kind = PLANISH_ABSENT}, out;
  items[1].as.tensor.ndim = 2, items[1].as.tensor.shape = zero, items[1].as.tensor.data = NULL;
  planish_value sequence = {.kind = PLANISH_SEQUENCE, .as.sequence = {items, 2}}, map = {.kind = PLANISH_MAP, .as.map = {&strings, &tensor}};
  CHECK(planish_set_input_value(context, 0, &strings) == PLANISH_OK && planish_set_input_value(context, 1, &sequence) == PLANISH_OK);
  CHECK(planish_set_input_value(context, 2, &map) == PLANISH_OK && planish_set_input_value(context, 3, &absent) == PLANISH_OK);
  CHECK(planish_invoke(context) == PLANISH_OK);
  CHECK(planish_get_output_value(context, 0, &out) == PLANISH_OK && out.as.strings.lengths[1] == 4 && !memcmp(out.as.strings.data[1], data[1], 5));
  CHECK(planish_get_output_value(context, 1, &out) == PLANISH_OK && out.kind == PLANISH_SEQUENCE && out.as.sequence.count == 2);
  CHECK(out.as.sequence.items[0].as.tensor.data == numbers_of && out.as.sequence.items[1].as.tensor.shape[1] == 7);
  CHECK(planish_get_output_value(context, 2, &out) == PLANISH_OK && out.kind == PLANISH_MAP && out.as.map.keys->as.strings.shape[0] == 2);
  CHECK(((float *)out.as.map.values->as.tensor.data)[1] == 2);
  CHECK(planish_get_output_value(context, 3, &out) == PLANISH_OK && out.kind == PLANISH_ABSENT);
  planish_value more = {.kind = PLANISH_SEQUENCE, .as.sequence = {&plain, 1}};
  CHECK(planish_set_input_value(context, 3, &more) == PLANISH_OK && planish_invoke(context) == PLANISH_OK);
  CHECK(planish_get_output_value(context, 3, &out) == PLANISH_OK && out.as.sequence.items[0].as.strings.lengths[1] == 2);
  expect(context, planish_set_input_value(context, 0, &tensor), PLANISH_INVALID_ARGUMENT, "input 's': type: expected string, got f32");
  expect(context, planish_set_input(context, 0, &tensor.as.tensor), PLANISH_INVALID_ARGUMENT, "input 's': kind: expected string, got a tensor; use planish_set_input_value");
  expect(context, planish_set_input_value(context, 1, &more), PLANISH_INVALID_ARGUMENT, "input 'q': type: expected seq<f32[*]>, got strings where f32[*] is expected");
  expect(context, planish_set_input_value(context, 2, &sequence), PLANISH_INVALID_ARGUMENT, "input 'm': type: expected map<string,f32>, got a sequence");
  map.as.map.values = &items[1];
  expect(context, planish_set_input_value(context, 2, &map), PLANISH_INVALID_ARGUMENT, "input 'm': a map's keys and values differ in number or dimensions");
  strings.as.strings.ndim = 0, strings.as.strings.data = NULL, strings.as.strings.lengths = NULL;
  expect(context, planish_set_input_value(context, 0, &strings), PLANISH_INVALID_ARGUMENT, "input 's': a string is NULL");
  planish_context_destroy(context);
}

/* Elements of 4 bits, of which two are in a byte. */
static void test_packed(void) {
  planish_host host = {0};
  planish_object *x = planish_tensor_new(NULL, (planish_dtype){0, 4, 1}, 1, (int64_t[]){5});
  planish_object *y = planish_tensor_new(NULL, (planish_dtype){0, 4, 1}, 1, (int64_t[]){5});
  for (int64_t i = 0; i < 5; i++) planish_store_number(x, i, (double)(i - 3));
  CHECK(planish_put(&host, y, x, 1, 3) == PLANISH_OK && planish_put_nothing(&host, y, 1) == PLANISH_OK);
  CHECK(planish_put(&host, y, x, 0, 1) == PLANISH_OK);
  const int64_t expected[] = {-2, -1, 0, 0, -3};
  for (int64_t i = 0; i < 5; i++) CHECK(planish_int_at(y, i) == expected[i] && planish_number_at(x, i) == (double)(i - 3));
  planish_release(x);
  planish_release(y);
}

void test_plan(void) {
  test_packed();
  test_simple();
  test_bindings();
  test_loop();
  test_limits();
  test_value_kinds();
}
