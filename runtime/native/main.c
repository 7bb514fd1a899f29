/* The executable: APP run, bench, info, self-test. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const char HELP[] =
    "usage: %s COMMAND [options]\n"
    "\n"
    "commands:\n"
    "  run        run the model on inputs from files\n"
    "  bench      measure how long a run takes\n"
    "  info       say what the model takes, gives and needs\n"
    "  self-test  run on built-in inputs and compare with the expected results\n"
    "\n"
    "options:\n"
    "  --input NAME=FILE.npy   an input (run, bench); repeat for each\n"
    "  --inputs FILE.npz       all inputs, by name (run, bench)\n"
    "  -o, --output OUT.npz    where the outputs go (run; without it a summary is printed)\n"
    "  --threads N             at most N threads (default: all that this process may use)\n"
    "  --runs N                how many runs to measure (bench; default: about two seconds)\n"
    "  --json                  print one JSON object (bench, info)\n"
    "  -h, --help              this text\n"
    "\n"
    "Files are NumPy's, .npz not compressed (numpy.savez). Types that NumPy lacks are raw bits under a name such as\n"
    "x:bf16. Exit status: 0; 1 with one message on standard error; 2 for wrong usage.\n";

int planish_cli_fail(const planish_options *options, const char *text) {
  fprintf(stderr, "%s: %s\n", options->program, text);
  return 1;
}

static int usage(const planish_options *options, const char *what, const char *value) {
  planish_quoted shown;
  fprintf(stderr, "%s: %s%s%s; see %s --help\n", options->program, what, value ? " " : "",
          value ? planish_quote(&shown, value) : "", options->program);
  return 2;
}

static bool add_array(planish_arrays *arrays, planish_array *array) {
  planish_array *grown = realloc(arrays->items, ((size_t)arrays->count + 1) * sizeof *grown);
  if (!grown) return false;
  arrays->items = grown;
  grown[arrays->count++] = *array;
  return true;
}

/* The '=' of NAME=FILE.npy: names may hold '=' and so may files; the first that ends the name of an input, or the first. */
static char *find_equals(const planish_model *model, char *argument) {
  char *first = strchr(argument, '=');
  for (char *equals = first; equals; equals = strchr(equals + 1, '=')) {
    char *name = strndup(argument, (size_t)(equals - argument));
    bool known = false;
    if (name) {
      planish_raw_suffix(name);
      known = planish_find_input(model, name) >= 0;
    }
    free(name);
    if (known) return equals;
  }
  return first;
}

static int add_input(const planish_model *model, planish_options *options, char *argument) {
  planish_message message;
  planish_array array = {0};
  char *equals = find_equals(model, argument);
  if (!equals) return usage(options, "--input: expected NAME=FILE.npy, got", argument);
  *equals = 0;
  if (planish_npy_load(equals + 1, argument, &array, &message)) return planish_cli_fail(options, message.text);
  return add_array(&options->inputs, &array) ? 0 : planish_cli_fail(options, "out of memory");
}

static int add_inputs(planish_options *options, const char *path) {
  planish_message message;
  planish_arrays arrays;
  if (planish_npz_load(path, &arrays, &message)) return planish_cli_fail(options, message.text);
  for (int32_t i = 0; i < arrays.count; i++)
    if (!add_array(&options->inputs, &arrays.items[i])) return planish_cli_fail(options, "out of memory");
  free(arrays.items); /* what they pointed to has moved */
  return 0;
}

static bool parse_count(const char *text, int32_t *out) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno || end == text || *end || value < 1 || value > 1000000000) return false;
  *out = (int32_t)value;
  return true;
}

enum { INPUT = 1, OUTPUT = 2, RUNS = 4, JSON = 8 };

typedef struct command {
  const char *name;
  int (*run)(const planish_model *, const planish_options *);
  int takes;
} command;

static const command COMMANDS[] = {
    {"run", planish_cli_run, INPUT | OUTPUT},
    {"bench", planish_cli_bench, INPUT | RUNS | JSON},
    {"info", planish_cli_info, JSON},
    {"self-test", planish_cli_selftest, 0},
};

/* One option at argv[*at]; advances over its value. 0, or the exit status. */
static int parse_option(const planish_model *model, planish_options *options, const command *chosen, char **argv,
                        int *at) {
  char *option = argv[*at], *value = argv[*at + 1], joined[32];
  char *equals = !strncmp(option, "--", 2) ? strchr(option, '=') : NULL;
  if (equals && (size_t)(equals - option) < sizeof joined) { /* --runs=5 */
    memcpy(joined, option, (size_t)(equals - option));
    joined[equals - option] = 0;
    option = joined;
    value = equals + 1;
  }
  bool is_input = !strcmp(option, "--input"), is_inputs = !strcmp(option, "--inputs");
  bool is_output = !strcmp(option, "-o") || !strcmp(option, "--output");
  bool is_threads = !strcmp(option, "--threads"), is_runs = !strcmp(option, "--runs"),
       is_json = !strcmp(option, "--json");
  bool known = ((is_input || is_inputs) && chosen->takes & INPUT) || (is_output && chosen->takes & OUTPUT) ||
               is_threads || (is_runs && chosen->takes & RUNS) || (is_json && chosen->takes & JSON);
  if (!known) return usage(options, "unknown option", argv[*at]);
  if (is_json) return options->json = true, 0;
  if (!value) return usage(options, "a value must follow", option);
  if (!equals) ++*at;
  if (is_input) return add_input(model, options, value);
  if (is_inputs) return add_inputs(options, value);
  if (is_output) return options->output = value, 0;
  if (!parse_count(value, is_threads ? &options->threads : &options->runs))
    return usage(options, "expected a number of at least 1, got", value);
  return 0;
}

static const char *program = "planish";

/* Inputs, outputs and weights are mapped files. */
static void lost_file(int number) {
  static const char text[] = ": a file in use (inputs, outputs or the program) was cut off or cannot be read\n";
  (void)number;
  (void)!write(STDERR_FILENO, program, strlen(program));
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  _exit(1);
}

int main(int argc, char **argv) {
  planish_options options = {.program = program};
  const planish_model *model;
  planish_message message;
  const command *chosen = NULL;
  if (argc > 0 && argv[0][0]) options.program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
  program = options.program;
  signal(SIGBUS, lost_file);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") && strcmp(argv[i], "-h")) continue;
    printf(HELP, options.program);
    return 0;
  }
  if (argc < 2) {
    fprintf(stderr, HELP, options.program);
    return 2;
  }
  for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
    if (!strcmp(COMMANDS[i].name, argv[1])) chosen = &COMMANDS[i];
  if (!chosen) return usage(&options, "unknown command", argv[1]);
  if (planish_model_open(&model, &message)) return planish_cli_fail(&options, message.text);
  int status = 0;
  for (int at = 2; at < argc && !status; at++) status = parse_option(model, &options, chosen, argv, &at);
  if (!status) status = chosen->run(model, &options);
  planish_arrays_free(&options.inputs);
  if (!status && (fflush(stdout) || ferror(stdout)))
    status = planish_cli_fail(&options, "standard output: cannot be written");
  return status;
}
