/* Unit tests of the C runtime, run under the address and undefined-behaviour sanitizers by tests/test_runtime_native.py.
 * Usage: test_native TEST [ARGUMENT ...]; exit status 0 and "ok" when all checks hold. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "selftest.h"

/* ---- element types ---- */
static void test_dtypes(void) {
  for (uint32_t bits = 0; bits < 65536; bits++) { /* every 16-bit float survives the way through double */
    double half = planish_f16_value((uint16_t)bits), brain = planish_bf16_value((uint16_t)bits);
    CHECK(isnan(half) ? isnan(planish_f16_value(planish_f16_bits(half))) : planish_f16_bits(half) == bits);
    CHECK(isnan(brain) ? isnan(planish_bf16_value(planish_bf16_bits(brain))) : planish_bf16_bits(brain) == bits);
  }
  CHECK(planish_f16_bits(65519.999) == 0x7BFF && planish_f16_bits(65520) == 0x7C00);
  CHECK(planish_f16_bits(0x1p-25) == 0 && planish_f16_bits(0x1.0001p-25) == 1);
  CHECK(planish_f16_bits(1 + 0x1p-11) == 0x3C00 && planish_f16_bits(1 + 0x3p-11) == 0x3C02); /* ties to even */
  CHECK(planish_bf16_bits(1 + 0x1p-8 + 0x1p-40) == 0x3F81);                                  /* rounded once */
  CHECK(planish_bf16_bits(-INFINITY) == 0xFF80 && planish_bf16_bits(1e300) == 0x7F80);
  int64_t huge[3] = {INT64_MAX / 2, 3, 1}, empty[3] = {7, 0, 9}, negative[1] = {-1};
  planish_dtype f32 = planish_dtype_find("f32")->dtype, i4 = planish_dtype_find("i4")->dtype;
  CHECK(planish_tensor_bytes(f32, 3, huge) == -1 && planish_tensor_bytes(f32, 3, empty) == 0);
  CHECK(planish_tensor_bytes(f32, 1, negative) == -1 && planish_tensor_bytes(i4, 2, (int64_t[]){3, 5}) == 8);
  CHECK(!planish_dtype_find("f99") && planish_dtype_of(f32) == planish_dtype_find("f32"));
}

/* ---- names ---- */
static void test_text(void) {
  planish_quoted quoted;
  char longest[5000];
  CHECK(!strcmp(planish_quote(&quoted, "a\n\x1b[31m\\\x7f"), "'a\\x0a\\x1b[31m\\x5c\\x7f'"));
  memset(longest, '\n', sizeof longest);
  longest[sizeof longest - 1] = 0;
  CHECK(strlen(planish_quote(&quoted, longest)) < sizeof quoted.text);
  for (size_t i = 0; i + 1 < sizeof longest; i++) longest[i] = "\xe4\xb8\xad"[i % 3];
  CHECK(strlen(planish_quote(&quoted, longest)) < sizeof quoted.text && strstr(quoted.text, "..."));
  memset(longest, '\xbf', sizeof longest - 1); /* continuation bytes only: not UTF-8 */
  CHECK(strlen(planish_quote(&quoted, longest)) < sizeof quoted.text);
  planish_message message;
  CHECK(planish_say(&message, 3, "%s", longest) == 3 && strlen(message.text) == sizeof message.text - 1);
  char name[] = "a:b:bf16", plain[] = "input:0", known[] = "x:f32";
  CHECK(planish_raw_suffix(name) && !strcmp(name, "a:b"));
  CHECK(!planish_raw_suffix(plain) && !planish_raw_suffix(known) && !strcmp(plain, "input:0"));
}

/* ---- pool ---- */
typedef struct counts {
  atomic_int parts[64];
  atomic_int total;
} counts;

static void count_part(void *data, int32_t index) {
  counts *c = data;
  atomic_fetch_add(&c->parts[index], 1);
  atomic_fetch_add(&c->total, 1);
}

static void run_many(planish_pool *pool, int32_t runs) {
  counts c = {{0}, 0};
  int32_t expected = 0;
  for (int32_t i = 0; i < runs; i++) {
    int32_t parts = 1 + i % pool->size;
    pool->run(pool, count_part, &c, parts);
    expected += parts;
    CHECK(atomic_load(&c.total) == expected); /* all parts are done when run returns */
  }
  CHECK(atomic_load(&c.parts[0]) == runs);
}

static void *run_from_thread(void *pool) {
  run_many(pool, 300);
  return NULL;
}

static void test_pool(void) {
  for (int32_t size = 1; size <= 9; size += 2) {
    for (int spin = 0; spin < 2; spin++) {
      planish_pool *pool = planish_pool_create_sized(size, spin);
      CHECK(pool && pool->size == size);
      run_many(pool, 500);
      usleep(2000); /* the workers fall asleep */
      run_many(pool, 5);
      pthread_t threads[3]; /* several callers share one pool */
      for (int i = 0; i < 3; i++) CHECK(!pthread_create(&threads[i], NULL, run_from_thread, pool));
      for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
      planish_pool_destroy(pool);
    }
  }
  planish_pool *unused = planish_pool_create_sized(8, true);
  planish_pool_destroy(unused);
  planish_pool_destroy(NULL);
  planish_pool *limited = planish_pool_create(1);
  CHECK(limited && limited->size == 1);
  planish_pool_destroy(limited);
  CHECK(planish_affinity_count() >= 1);
}

/* ---- workers that come late or never: threads made below wait at a gate before they begin ---- */
int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

typedef struct start {
  void *(*begin)(void *);
  void *argument;
} start;

static atomic_int gate_closed;

static void *wait_at_the_gate(void *argument) {
  start own = *(start *)argument;
  free(argument);
  while (atomic_load(&gate_closed)) usleep(100);
  return own.begin(own.argument);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*begin)(void *), void *argument) {
  if (!atomic_load(&gate_closed)) return __real_pthread_create(thread, attributes, begin, argument);
  start *own = malloc(sizeof *own);
  CHECK(own);
  *own = (start){begin, argument};
  return __real_pthread_create(thread, attributes, wait_at_the_gate, own);
}

static void test_late(void) {
  for (int spin = 0; spin < 2; spin++) {
    planish_pool *pool = planish_pool_create_sized(5, spin);
    atomic_store(&gate_closed, 1);
    run_many(pool, 100); /* the caller does all parts */
    atomic_store(&gate_closed, 0);
    run_many(pool, 3000); /* the workers come in the middle of it, to parts that are done */
    planish_pool_destroy(pool);
  }
}

static void slow_part(void *data, int32_t index) {
  if (index == 1) usleep(2000);
  count_part(data, index);
}

static void test_stall(void) { /* after a wait the caller works alone for a time, and then not any more */
  planish_pool *pool = planish_pool_create_sized(3, true);
  counts c = {{0}, 0};
  for (int32_t i = 1; i <= 30; i++) {
    pool->run(pool, slow_part, &c, 3);
    CHECK(atomic_load(&c.total) == 3 * i);
    run_many(pool, 20);
  }
  planish_pool_destroy(pool);
}

static void nested_part(void *data, int32_t index) {
  planish_pool *pool = data;
  counts c = {{0}, 0};
  (void)index;
  pool->run(pool, count_part, &c, pool->size);
  CHECK(atomic_load(&c.total) == pool->size);
}

static void test_nested(void) {
  planish_pool *pool = planish_pool_create_sized(4, false);
  pool->run(pool, nested_part, pool, 4);
  planish_pool_destroy(pool);
}

static void test_fork(void) {
  planish_pool *pool = planish_pool_create_sized(4, true);
  run_many(pool, 50);
  for (int generation = 0; generation < 3; generation++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
      run_many(pool, 50);
      planish_pool_destroy(pool);
      _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    run_many(pool, 50);
  }
  planish_pool_destroy(pool);
}

/* ---- quota: PROC ROOT EXPECTED ---- */
static void test_quota(char **arguments) { CHECK(planish_quota_count(arguments[0], arguments[1]) == atoi(arguments[2])); }

/* ---- model and context ---- */
enum { ROWS = 5 };

typedef struct call {
  float x[ROWS][4], y[ROWS][4];
  int64_t index[ROWS], x_shape[2], index_shape[1];
  planish_tensor x_tensor, index_tensor, y_tensor;
} call;

static void fill_call(call *c) {
  memset(c, 0, sizeof *c);
  for (int n = 0; n < ROWS; n++) {
    c->index[n] = n % 8;
    for (int k = 0; k < 4; k++) c->x[n][k] = (float)(n + k);
  }
  c->x_shape[0] = c->index_shape[0] = ROWS;
  c->x_shape[1] = 4;
  c->x_tensor = (planish_tensor){c->x, {1, 0}, 2, {2, 32, 1}, c->x_shape, NULL, 0};
  c->y_tensor = (planish_tensor){c->y, {1, 0}, 2, {2, 32, 1}, c->x_shape, NULL, 0};
  c->index_tensor = (planish_tensor){c->index, {1, 0}, 1, {0, 64, 1}, c->index_shape, NULL, 0};
}

static planish_context *new_context(planish_pool *pool) {
  const planish_model *model;
  planish_context *context;
  planish_message message;
  CHECK(planish_model_open(&model, &message) == PLANISH_OK);
  CHECK(planish_context_create(model, pool, 0, &context, &message) == PLANISH_OK);
  return context;
}

static void set_both(planish_context *context, call *c) {
  CHECK(planish_set_input(context, 0, &c->x_tensor) == PLANISH_OK);
  CHECK(planish_set_input(context, 1, &c->index_tensor) == PLANISH_OK);
}

static void check_rows(const call *c, const float *y, int64_t rows) {
  for (int64_t n = 0; n < rows; n++)
    for (int64_t k = 0; k < 4; k++) CHECK(y[n * 4 + k] == c->x[n][k] * (float)(c->index[n] * 4 + k));
}

static void test_context(void) {
  planish_pool *pool = planish_pool_create_sized(3, true);
  planish_context *context = new_context(pool);
  call c;
  fill_call(&c);
  CHECK(planish_context_threads(context) == 3 && !planish_output_shape(context, 0));
  CHECK(planish_invoke(context) == PLANISH_NOT_READY && strstr(planish_context_error(context), "'x' is not set"));
  set_both(context, &c);
  CHECK(planish_invoke(context) == PLANISH_OK);
  planish_tensor view;
  CHECK(planish_get_output(context, 0, &view) == PLANISH_OK && view.shape[0] == ROWS && view.shape[1] == 4);
  check_rows(&c, view.data, ROWS);
  CHECK(planish_set_output(context, 0, &c.y_tensor) == PLANISH_OK && planish_invoke(context) == PLANISH_OK);
  check_rows(&c, &c.y[0][0], ROWS);
  c.x[0][1] = 100; /* bound: the data is read anew */
  CHECK(planish_invoke(context) == PLANISH_OK && c.y[0][1] == 100);
  CHECK(planish_set_output(context, 0, NULL) == PLANISH_OK && planish_invoke(context) == PLANISH_OK);
  planish_managed_tensor *taken;
  CHECK(planish_take_output(context, 0, &taken) == PLANISH_OK && taken->version.major == 1);
  CHECK(planish_invoke(context) == PLANISH_OK);
  planish_context_destroy(context);
  check_rows(&c, taken->tensor.data, ROWS); /* outlives the context */
  taken->deleter(taken);
  planish_pool_destroy(pool);
}

static void test_sizes(void) { /* one context, growing and shrinking symbols, down to zero */
  planish_context *context = new_context(NULL);
  call c;
  fill_call(&c);
  for (int64_t rows = ROWS; rows >= 0; rows--) {
    c.x_shape[0] = c.index_shape[0] = rows;
    set_both(context, &c);
    planish_tensor view;
    CHECK(planish_invoke(context) == PLANISH_OK && planish_get_output(context, 0, &view) == PLANISH_OK);
    CHECK(view.shape[0] == rows && planish_arena_bytes(context) == rows * 16);
    check_rows(&c, view.data, rows);
  }
  planish_context_destroy(context);
}

static void expect_refused(planish_context *context, planish_status status, const char *text) {
  CHECK(status == PLANISH_INVALID_ARGUMENT);
  if (!strstr(planish_context_error(context), text)) {
    fprintf(stderr, "expected '%s' in '%s'\n", text, planish_context_error(context));
    exit(1);
  }
}

static void test_refusals(void) {
  planish_context *context = new_context(NULL);
  call c;
  int64_t shape[40] = {ROWS, 3}, strides[2] = {1, ROWS};
  fill_call(&c);
  planish_tensor t = c.x_tensor;
  expect_refused(context, planish_set_input(context, 2, &t), "input: number: expected 0 to 1, got 2");
  expect_refused(context, planish_set_input(context, -1, &t), "got -1");
  t.dtype.bits = 64;
  expect_refused(context, planish_set_input(context, 0, &t), "input 'x': type: expected f32, got f64");
  t.dtype.lanes = 4;
  expect_refused(context, planish_set_input(context, 0, &t), "got DLPack type code 2 of 64 bits, 4 lanes");
  t = c.x_tensor, t.shape = shape;
  expect_refused(context, planish_set_input(context, 0, &t), "input 'x': shape: expected [N,4], got [5,3]");
  t.ndim = 1;
  expect_refused(context, planish_set_input(context, 0, &t), "shape: expected [N,4], got [5]");
  t.ndim = 40;
  expect_refused(context, planish_set_input(context, 0, &t), "rank: expected 2, got 40");
  t = c.x_tensor, t.strides = strides;
  expect_refused(context, planish_set_input(context, 0, &t), "row-major");
  t = c.x_tensor, t.data = NULL;
  expect_refused(context, planish_set_input(context, 0, &t), "got NULL");
  t = c.x_tensor, t.byte_offset = 1;
  expect_refused(context, planish_set_input(context, 0, &t), "multiple of 4");
  t = c.x_tensor, t.device.type = 2;
  expect_refused(context, planish_set_input(context, 0, &t), "device");
  c.index_shape[0] = 3;
  set_both(context, &c);
  expect_refused(context, planish_invoke(context),
                 "input 'index': dimension 0, which is 'N': expected 5 as in input 'x', got 3");
  fill_call(&c);
  set_both(context, &c);
  t = c.x_tensor;
  CHECK(planish_set_output(context, 0, &t) == PLANISH_OK);
  expect_refused(context, planish_invoke(context), "output 'y': its buffer overlaps that of input 'x'");
  shape[0] = 4, shape[1] = 4, t = c.y_tensor, t.shape = shape;
  CHECK(planish_set_output(context, 0, &t) == PLANISH_OK);
  expect_refused(context, planish_invoke(context), "output 'y': dimension 0 of the buffer: expected 5, got 4");
  planish_managed_tensor *taken;
  CHECK(planish_take_output(context, 0, &taken) == PLANISH_NOT_READY && !taken);
  planish_context_destroy(context);
}

static void test_failures(void) {
  planish_pool *pool = planish_pool_create_sized(4, true);
  planish_context *context = new_context(pool);
  call c;
  fill_call(&c);
  c.index[3] = 8;
  set_both(context, &c);
  for (int i = 0; i < 50; i++) {
    CHECK(planish_invoke(context) == PLANISH_INDEX_OUT_OF_RANGE);
    CHECK(!strcmp(planish_context_error(context),
                  "node 'gather/rows \"quoted\"\\x0a': index: expected 0 to 7, got 8"));
  }
  c.index[3] = 7;
  CHECK(planish_invoke(context) == PLANISH_OK); /* a failure does not stick */
  CHECK(planish_fail(&context->env, 99, PLANISH_FAIL_MEMORY) == PLANISH_OUT_OF_MEMORY);
  CHECK(strstr(planish_context_error(context), "node 'unknown': out of memory"));
  planish_context_destroy(context);
  planish_pool_destroy(pool);
}

static void test_profile(void) {
  planish_context *context = new_context(NULL);
  const planish_mark *marks;
  CHECK(planish_context_profile(context, &marks) == 0);
  for (int run = 0; run < 2; run++) {
    planish_profile(&context->env, 0);
    planish_profile(&context->env, 2);
    planish_profile(&context->env, 2);
    if (run == 0) planish_profile(&context->env, 1000); /* more room */
    CHECK(planish_context_profile(context, &marks) == (run == 0 ? 1000 : 2)); /* of the last run only */
    CHECK(marks[1].count == 2 && marks[1].nanoseconds >= 0 && marks[0].count == 0);
    CHECK(run || (marks[999].count == 1 && marks[998].count == 0));
  }
  planish_context_destroy(context);
}

static void test_values(void) {
  planish_context *context = new_context(NULL);
  call c;
  fill_call(&c);
  planish_value inputs[2] = {{PLANISH_TENSOR, "index", {c.index_tensor}}, {PLANISH_TENSOR, "x", {c.x_tensor}}};
  planish_value outputs[2] = {{.kind = PLANISH_TENSOR, .name = "total"}, {PLANISH_TENSOR, "y", {c.y_tensor}}};
  CHECK(planish_run(context, inputs, 2, outputs, 2) == PLANISH_OK);
  check_rows(&c, &c.y[0][0], ROWS);
  float total = 0;
  for (int i = 0; i < ROWS * 4; i++) total += (&c.y[0][0])[i];
  CHECK(*(float *)outputs[0].as.tensor.data == total);
  inputs[0].name = "nope\n";
  expect_refused(context, planish_run(context, inputs, 2, outputs, 2), "no input of this name");
  inputs[0] = (planish_value){PLANISH_TENSOR, NULL, {c.x_tensor}}, inputs[1] = (planish_value){PLANISH_TENSOR, NULL, {c.index_tensor}};
  CHECK(planish_run(context, inputs, 2, NULL, 0) == PLANISH_OK);
  planish_context_destroy(context);
}

static void *call_repeatedly(void *pool) {
  planish_context *context = new_context(pool);
  call c;
  fill_call(&c);
  set_both(context, &c);
  CHECK(planish_set_output(context, 0, &c.y_tensor) == PLANISH_OK);
  for (int i = 0; i < 300; i++) {
    c.x[0][1] = (float)i;
    CHECK(planish_invoke(context) == PLANISH_OK);
    check_rows(&c, &c.y[0][0], ROWS);
  }
  planish_context_destroy(context);
  return NULL;
}

static void test_concurrent(void) {
  planish_pool *pool = planish_pool_create_sized(3, true);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, call_repeatedly, pool));
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  planish_pool_destroy(pool);
}

static void test_cpu(void) {
  planish_message message;
  const char *features[] = {"sse2", "no-such-feature", "another\n"};
  CHECK(planish_check_cpu(features, 1, &message) == PLANISH_OK);
  CHECK(planish_check_cpu(features, 3, &message) == PLANISH_UNSUPPORTED_CPU);
  CHECK(strstr(message.text, "no-such-feature, another"));
}

/* ---- NumPy files: each argument is read; prints "ARGUMENT: what happened" ---- */
static void test_files(char **paths) {
  for (; *paths; paths++) {
    planish_message message = {""};
    size_t length = strlen(*paths);
    planish_arrays arrays = {NULL, 0};
    planish_status status;
    if (length > 4 && !strcmp(*paths + length - 4, ".npy")) {
      planish_array array = {0};
      char name[] = "x";
      status = planish_npy_load(*paths, name, &array, &message);
      free(array.name);
      planish_array_release(&array);
    } else {
      status = planish_npz_load(*paths, &arrays, &message);
    }
    CHECK(!status == !message.text[0]);
    if (!status && arrays.count) { /* what was read can be written, and is the same when read again */
      char copy[4096];
      planish_arrays again = {NULL, 0};
      snprintf(copy, sizeof copy, "%s.copy", *paths);
      CHECK(planish_npz_save(copy, arrays.items, arrays.count, &message) == PLANISH_OK);
      CHECK(planish_npz_load(copy, &again, &message) == PLANISH_OK && again.count == arrays.count);
      for (int32_t i = 0; i < arrays.count; i++) {
        CHECK(!strcmp(again.items[i].name, arrays.items[i].name) && again.items[i].bytes == arrays.items[i].bytes);
        CHECK(!memcmp(again.items[i].data, arrays.items[i].data, (size_t)arrays.items[i].bytes));
      }
      planish_arrays_free(&again);
    }
    planish_arrays_free(&arrays);
    printf("%s: %s\n", *paths, status ? message.text : "read");
  }
}

/* ---- seeded inputs: DTYPE LO HI FILE.npz; tests/test_runtime_native.py compares with Python's ---- */
static void test_seeded(char **arguments) {
  static const int64_t dims[] = {7, -1};
  const planish_io_spec specs[2] = {{"a", "f32", 2, dims}, {"x", arguments[0], 2, dims}};
  const int64_t symbols[] = {143};
  const double ranges[] = {0, 1, atof(arguments[1]), atof(arguments[2])};
  const planish_selftest test = {.seed = 99, .symbols = symbols, .ranges = ranges};
  const planish_module module = {.n_inputs = 2, .inputs = specs, .selftest = &test};
  planish_array array = {0};
  planish_message message;
  CHECK(planish_seeded_input(&module, 1, &array, &message) == PLANISH_OK);
  CHECK(planish_npz_save(arguments[3], &array, 1, &message) == PLANISH_OK);
  free(array.name);
  planish_array_release(&array);
}

void test_variants(void); /* test_variants.c */
void test_plan(void);     /* test_plan.c */

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } tests[] = {{"dtypes", test_dtypes},     {"text", test_text},         {"pool", test_pool},
               {"late", test_late},         {"stall", test_stall},
               {"nested", test_nested},     {"fork", test_fork},         {"context", test_context},
               {"sizes", test_sizes},       {"refusals", test_refusals}, {"failures", test_failures},
               {"profile", test_profile},
               {"values", test_values},     {"concurrent", test_concurrent}, {"cpu", test_cpu},
               {"variants", test_variants}, {"plan", test_plan}};
  bool found = false;
  CHECK(argc > 1);
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
    if (strcmp(tests[i].name, argv[1])) continue;
    tests[i].run();
    found = true;
  }
  if (!strcmp(argv[1], "quota") && argc == 5) test_quota(argv + 2), found = true;
  if (!strcmp(argv[1], "seeded") && argc == 6) test_seeded(argv + 2), found = true;
  if (!strcmp(argv[1], "files")) test_files(argv + 2), found = true;
  CHECK(found);
  puts("ok");
  return 0;
}
