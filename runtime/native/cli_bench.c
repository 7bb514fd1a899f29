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

/* The most memory this process ever held, in MB. Not getrusage: its maximum is inherited across exec, so that a small
 * program started by a large one would report the large one's. */
static double peak_rss_mb(void) {
  char line[256];
  long kilobytes = 0;
  FILE *status = fopen("/proc/self/status", "r");
  if (!status) return 0;
  while (fgets(line, sizeof line, status))
    if (!strncmp(line, "VmHWM:", 6)) {
      kilobytes = strtol(line + 6, NULL, 10);
      break;
    }
  fclose(status);
  return (double)kilobytes / 1024;
}

static void report(const planish_model *model, const planish_options *options, const planish_context *context,
                   double first, double *times, int32_t runs) {
  qsort(times, (size_t)runs, sizeof *times, by_value);
  double median = runs % 2 ? times[runs / 2] : (times[runs / 2 - 1] + times[runs / 2]) / 2;
  double p90 = times[(int32_t)((double)(runs - 1) * 0.9 + 0.5)];
  if (options->json) {
    printf("{\"model\": \"");
    for (const unsigned char *c = (const unsigned char *)planish_model_name(model); *c; c++)
      printf(*c < 0x20 || *c == '"' || *c == '\\' || *c == 0x7F ? "\\u%04x" : "%c", *c);
    printf("\", \"threads\": %d, \"runs\": %d, \"first_ms\": %.4f, \"median_ms\": %.4f, \"min_ms\": %.4f, "
           "\"p90_ms\": %.4f, \"peak_rss_mb\": %.1f}\n",
           planish_context_threads(context), runs, first, median, times[0], p90, peak_rss_mb());
    return;
  }
  printf("threads   %d\nruns      %d\nfirst     %.3f ms\nmedian    %.3f ms\nmin       %.3f ms\np90       %.3f ms\n"
         "peak rss  %.1f MB\n",
         planish_context_threads(context), runs, first, median, times[0], p90, peak_rss_mb());
}

static int measure(const planish_model *model, const planish_options *options, planish_context *context) {
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
  report(model, options, context, first, times, runs);
  free(times);
  return 0;
}

int planish_cli_bench(const planish_model *model, const planish_options *options) {
  planish_arrays arrays = {NULL, 0};
  planish_context *context = NULL;
  arrays.items = calloc((size_t)options->inputs.count + 1, sizeof *arrays.items);
  if (!arrays.items) return planish_cli_fail(options, "out of memory");
  arrays.count = options->inputs.count;
  for (int32_t i = 0; i < arrays.count; i++) arrays.items[i] = options->inputs.items[i]; /* theirs to free */
  int status = !planish_cli_complete(model, options, &arrays) ||
               !(context = planish_cli_context(model, options, &arrays));
  if (!status) status = measure(model, options, context);
  planish_context_destroy(context);
  for (int32_t i = 0; i < options->inputs.count; i++) arrays.items[i].name = NULL, arrays.items[i].data = NULL;
  planish_arrays_free(&arrays);
  return status;
}
