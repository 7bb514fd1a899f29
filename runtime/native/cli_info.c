/* APP info. */
#include <inttypes.h>
#include <string.h>

#include "cli.h"

void planish_cli_describe(const planish_model *model, const planish_io *io, char *text, size_t size) {
  if (strchr(io->dtype_name, '<')) { /* seq<...> and the like say it all */
    snprintf(text, size, "%s", io->dtype_name);
    return;
  }
  size_t used = (size_t)snprintf(text, size, "%s[%s", io->dtype_name, io->rank < 0 ? "*" : "");
  for (int32_t d = 0; d < io->rank && used + 64 < size; d++) {
    planish_quoted quoted;
    const char *comma = d ? "," : "";
    if (io->dims[d] >= 0) {
      used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, comma, io->dims[d]);
      continue;
    }
    const char *symbol = planish_quote(&quoted, planish_symbol_name(model, (int32_t)-(io->dims[d] + 1)));
    size_t length = strlen(symbol) - 2; /* without the quotes */
    used += (size_t)snprintf(text + used, size - used, "%s%.*s", comma, (int)(length < 40 ? length : 40), symbol + 1);
  }
  if (used + 2 <= size) memcpy(text + used, "]", 2);
}

static void list(const planish_model *model, const char *title, int32_t count,
                 planish_status (*info)(const planish_model *, int32_t, planish_io *)) {
  for (int32_t i = 0; i < count; i++) {
    planish_io io;
    planish_quoted name;
    char text[512];
    info(model, i, &io);
    planish_cli_describe(model, &io, text, sizeof text);
    printf("%-9s %s %s\n", i ? "" : title, planish_quote(&name, io.name), text);
  }
}

static void list_ranks(const planish_module *module) {
  for (uint32_t i = 0; i < planish_open_inputs(module); i++) {
    planish_quoted name;
    char ranks[300];
    if (module->inputs[i].rank >= 0 || !module->n_variants || strchr(module->inputs[i].dtype, '<')) continue;
    planish_list_ranks(module, (int32_t)i, ranks, sizeof ranks);
    printf("%-9s %s%s\n", "ranks", planish_quote(&name, module->inputs[i].name), ranks);
  }
}

int planish_cli_info(const planish_model *model, const planish_options *options) {
  const planish_module *module = model->module;
  planish_quoted name;
  if (options->json) {
    uint64_t bytes;
    const char *manifest = planish_model_manifest(model, &bytes);
    fwrite(manifest, 1, (size_t)bytes, stdout);
    putchar('\n');
    return 0;
  }
  printf("%-9s %s\n", "model", planish_quote(&name, planish_model_name(model)));
  list(model, "inputs", planish_input_count(model), planish_input_info);
  list(model, "outputs", planish_output_count(model), planish_output_info);
  list(model, "states", planish_state_count(model), planish_state_info);
  list_ranks(module);
  printf("%-9s %.2f MB\n", "weights", (double)module->weights_bytes / 1e6);
  printf("%-9s", "cpu");
  for (uint32_t i = 0; i < module->n_features; i++) printf(" %s", module->features[i]);
  printf("%s\n", module->n_features ? "" : " any");
  printf("%-9s %s\n", "self-test", module->selftest ? "yes" : "no");
  return 0;
}
