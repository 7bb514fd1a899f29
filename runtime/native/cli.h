/* The command line of an executable artifact. */
#ifndef PLANISH_CLI_H
#define PLANISH_CLI_H

#include "selftest.h"

typedef struct planish_options {
  const char *program;
  planish_arrays inputs;
  const char *output;
  int32_t threads, runs;
  bool json;
} planish_options;

/* Both return the exit status. */
int planish_cli_run(const planish_model *model, const planish_options *options);
int planish_cli_bench(const planish_model *model, const planish_options *options);
int planish_cli_info(const planish_model *model, const planish_options *options);
int planish_cli_selftest(const planish_model *model, const planish_options *options);

/* Print "PROGRAM: TEXT" on standard error; returns 1. */
int planish_cli_fail(const planish_options *options, const char *text);
/* Bind the arrays by name to the inputs of a new context. NULL after having said why. */
planish_context *planish_cli_context(const planish_model *model, const planish_options *options,
                                     const planish_arrays *arrays);
/* One seeded array for each input that `given` does not have; false after having said why. */
bool planish_cli_complete(const planish_model *model, const planish_options *options, planish_arrays *given);
/* Name, type and shape of each output, without data. False: they are known after the run only, or something is wrong,
 * which the run will say. */
bool planish_cli_expect(const planish_model *model, planish_context *context, planish_arrays *arrays);
/* Make output `index` of the context write to the array's data; false after having said why. */
bool planish_cli_direct(planish_context *context, const planish_options *options, int32_t index, planish_array *array);
/* "f32[1,3,N]" */
void planish_cli_describe(const planish_model *model, const planish_io *io, char *text, size_t size);
/* cli_value.c: values in arrays. Strings are NumPy's texts; item i of sequence x is x.i, an empty one x.len = 0; a map is x.keys
 * and x.values; an optional without a value is not there. */
bool planish_cli_has_input(const planish_io *io, const planish_arrays *arrays);
/* Whether an array of this name is part of an input. */
bool planish_cli_belongs(const planish_model *model, const char *name);
planish_status planish_cli_bind_value(planish_context *context, int32_t index, const planish_io *io,
                                      const planish_arrays *arrays, planish_message *message);
/* Append the arrays of a value; free them with planish_cli_free_flat. False: no memory. */
bool planish_cli_flatten(const char *name, const planish_value *value, planish_arrays *arrays);
void planish_cli_free_flat(planish_arrays *arrays);
void planish_cli_print_value(const char *name, const planish_value *value);
double planish_cli_now(void); /* milliseconds */

#endif
