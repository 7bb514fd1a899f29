/* APP bench. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

#define BUDGET_MS 2000.0
#define MOST_RUNS 1000

double planish_cli_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

typedef struct memory { /* in MB */
  double peak, anonymous, arena, bound; /* bound: inputs and outputs, which are the caller's */
} memory;

/* A line of /proc/self/status. Not getrusage: its maximum is inherited across exec, so that a small program started by a
 * large one would report the large one's. */
static double status_mb(const char *key) {
  char line[256];
  long kilobytes = 0;
  FILE *status = fopen("/proc/self/status", "r");
  if (!status) return 0;
  while (fgets(line, sizeof line, status))
    if (!strncmp(line, key, strlen(key))) {
      kilobytes = strtol(line + strlen(key), NULL, 10);
      break;
    }
  fclose(status);
  return (double)kilobytes * 1024 / 1e6;
}

static memory measure_memory(const planish_model *model, planish_context *context, const planish_arrays *inputs) {
  memory found = {status_mb("VmHWM:"), status_mb("RssAnon:"), (double)planish_arena_bytes(context) / 1e6, 0};
  for (int32_t i = 0; i < inputs->count; i++) found.bound += (double)inputs->items[i].bytes / 1e6;
  for (int32_t i = 0; i < planish_output_count(model); i++) {
    planish_tensor tensor;
    if (!planish_get_output(context, i, &tensor))
      found.bound += (double)planish_tensor_bytes(tensor.dtype, tensor.ndim, tensor.shape) / 1e6;
  }
  return found;
}

static void report(const planish_model *model, const planish_options *options, const planish_context *context,
                   memory held, double first, double *times, int32_t runs) {
  qsort(times, (size_t)runs, sizeof *times, by_value);
  double median = runs % 2 ? times[runs / 2] : (times[runs / 2 - 1] + times[runs / 2]) / 2;
  double p90 = times[(int32_t)((double)(runs - 1) * 0.9 + 0.5)];
  if (options->json) {
    printf("{\"model\": \"");
    for (const unsigned char *c = (const unsigned char *)planish_model_name(model); *c; c++)
      printf(*c < 0x20 || *c == '"' || *c == '\\' || *c == 0x7F ? "\\u%04x" : "%c", *c);
    printf("\", \"threads\": %d, \"runs\": %d, \"first_ms\": %.4f, \"median_ms\": %.4f, \"min_ms\": %.4f, "
           "\"p90_ms\": %.4f, \"peak_rss_mb\": %.1f, \"anonymous_mb\": %.2f, \"arena_mb\": %.2f, "
           "\"bound_mb\": %.2f}\n",
           planish_context_threads(context), runs, first, median, times[0], p90, held.peak, held.anonymous, held.arena,
           held.bound);
    return;
  }
  printf("threads   %d\nruns      %d\nfirst     %.3f ms\nmedian    %.3f ms\nmin       %.3f ms\np90       %.3f ms\n"
         "peak rss  %.1f MB\nof it     %.2f MB anonymous: arena %.2f MB, inputs and outputs %.2f MB\n",
         planish_context_threads(context), runs, first, median, times[0], p90, held.peak, held.anonymous, held.arena,
         held.bound);
}

static int measure(const planish_model *model, const planish_options *options, planish_context *context,
                   const planish_arrays *inputs) {
  double start = planish_cli_now();
  if (planish_invoke(context)) return planish_cli_fail(options, planish_context_error(context));
  double first = planish_cli_now() - start;
  int32_t most = options->runs ? options->runs : MOST_RUNS, runs = 0;
  double *times = malloc((size_t)most * sizeof *times);
  if (!times) return planish_cli_fail(options, "out of memory");
  for (int32_t warm = 0; warm < 3 && planish_cli_now() - start < BUDGET_MS / 4; warm++) planish_invoke(context);
  double begin = planish_cli_now();
  while (runs < most && (options->runs || runs < 3 || planish_cli_now() - begin < BUDGET_MS)) {
    double before = planish_cli_now();
    planish_invoke(context);
    times[runs++] = planish_cli_now() - before;
  }
  report(model, options, context, measure_memory(model, context, inputs), first, times, runs);
  free(times);
  return 0;
}

/* Memory for the outputs as inputs have it: neither is the program's own. */
static bool bind_outputs(const planish_model *model, planish_context *context, const planish_options *options,
                         planish_arrays *outputs) {
  bool good = planish_cli_expect(model, context, outputs), bound = true;
  for (int32_t i = 0; i < outputs->count && good; i++)
    good = planish_array_allocate(&outputs->items[i], outputs->items[i].bytes);
  for (int32_t i = 0; i < outputs->count && good && bound; i++)
    bound = planish_cli_direct(context, options, i, &outputs->items[i]);
  return bound;
}

int planish_cli_bench(const planish_model *model, const planish_options *options) {
  planish_arrays arrays = {NULL, 0}, outputs = {NULL, 0};
  planish_context *context = NULL;
  arrays.items = calloc((size_t)options->inputs.count + 1, sizeof *arrays.items);
  if (!arrays.items) return planish_cli_fail(options, "out of memory");
  arrays.count = options->inputs.count;
  for (int32_t i = 0; i < arrays.count; i++) arrays.items[i] = options->inputs.items[i]; /* theirs to free */
  int status = !planish_cli_complete(model, options, &arrays) ||
               !(context = planish_cli_context(model, options, &arrays));
  if (!status) status = !bind_outputs(model, context, options, &outputs) ||
                        measure(model, options, context, &arrays);
  planish_context_destroy(context);
  planish_arrays_free(&outputs);
  for (int32_t i = 0; i < options->inputs.count; i++) arrays.items[i] = (planish_array){0}; /* not ours to free */
  planish_arrays_free(&arrays);
  return status;
}
