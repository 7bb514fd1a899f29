/* Models with inputs of unknown rank, or with versions for some sizes: the variant of the code that fits the inputs at
 * hand, or why there is none. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

static bool takes(const planish_module *module, int32_t input, int32_t rank) {
  for (uint32_t v = 0; v < module->n_variants; v++)
    if (module->variants[v]->inputs[input].rank == rank) return true;
  return false;
}

void planish_list_ranks(const planish_module *module, int32_t input, char *text, size_t size) {
  size_t used = 0;
  text[0] = 0;
  for (int32_t rank = 0; rank <= PLANISH_MAX_RANK && used + 8 < size; rank++)
    if (takes(module, input, rank)) used += (size_t)snprintf(text + used, size - used, " %d", rank);
}

/* ": why", or "" for ranks that nothing is known of. */
static const char *colon(const char *reason) { return *reason ? ": " : ""; }

planish_status planish_check_rank(const planish_module *module, int32_t input, int32_t rank, planish_message *message) {
  char ranks[300];
  const char *reason = "";
  planish_quoted name;
  if (!module->n_variants || module->inputs[input].rank >= 0 || takes(module, input, rank)) return PLANISH_OK;
  for (uint32_t r = module->n_refusals; r-- > 0;)
    if (module->refusals[r].ranks[input] == rank) reason = module->refusals[r].reason;
  planish_list_ranks(module, input, ranks, sizeof ranks);
  return planish_say(message, PLANISH_INVALID_ARGUMENT, "input %s: rank: expected one of%s, got %d%s%s",
                     planish_quote(&name, module->inputs[input].name), ranks, rank, colon(reason), reason);
}

/* The ranks of the inputs of unknown rank, "2,3". */
static void join(const planish_module *module, const planish_io_spec *specs, const planish_slot *slots, char *text,
                 size_t size) {
  size_t used = 0;
  text[0] = 0;
  for (uint32_t i = 0; i < module->n_inputs && used + 8 < size; i++)
    if (module->inputs[i].rank < 0)
      used += (size_t)snprintf(text + used, size - used, "%s%d", used ? "," : "",
                               specs ? specs[i].rank : slots[i].tensor.ndim);
}

static bool is_refused(const planish_context *context, const planish_refusal *refusal) {
  for (uint32_t i = 0; i < context->model->module->n_inputs; i++)
    if (refusal->ranks[i] >= 0 && refusal->ranks[i] != context->inputs[i].tensor.ndim) return false;
  return true;
}

/* No variant has all the ranks, though each rank occurs. */
static planish_status say_none(planish_context *context) {
  const planish_module *module = context->model->module;
  char names[300] = "", got[100], one[100], known[300] = "";
  const char *reason = "";
  size_t used = 0;
  planish_quoted name;
  for (uint32_t i = 0; i < module->n_inputs && used + sizeof name < sizeof names; i++)
    if (module->inputs[i].rank < 0)
      used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                               planish_quote(&name, module->inputs[i].name));
  used = 0;
  for (uint32_t v = 0; v < module->n_variants && used + 12 < sizeof known; v++) {
    join(module, module->variants[v]->inputs, NULL, one, sizeof one);
    bool fits = used + strlen(one) + 8 < sizeof known;
    used += (size_t)snprintf(known + used, sizeof known - used, " %s", fits ? one : "...");
    if (!fits) break;
  }
  for (uint32_t r = module->n_refusals; r-- > 0;)
    if (is_refused(context, &module->refusals[r])) reason = module->refusals[r].reason;
  join(module, NULL, context->inputs, got, sizeof got);
  return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "inputs %s: ranks: expected one of%s, got %s%s%s",
                     names, known, got, colon(reason), reason);
}

static planish_status choose(planish_context *context, const planish_module *variant) {
  context->module = variant;
  planish_status status = PLANISH_OK;
  for (uint32_t i = 0; i < variant->n_inputs && !status; i++)
    if (context->inputs[i].tensor.ndim >= 0) /* else it is no tensor */
      status = planish_check_shape(context, "input", &variant->inputs[i], &context->inputs[i].tensor);
  return status;
}

/* Whether the inputs have the ranks of a variant, and with `sizes` its numbers, too. */
static bool fits(const planish_context *context, const planish_module *variant, bool sizes) {
  for (uint32_t i = 0; i < variant->n_inputs; i++) {
    const planish_io_spec *spec = &variant->inputs[i];
    const planish_slot *slot = &context->inputs[i];
    if (spec->rank != slot->tensor.ndim) return false;
    for (int32_t d = 0; sizes && d < spec->rank; d++)
      if (spec->dims[d] >= 0 && spec->dims[d] != slot->shape[d]) return false;
  }
  return true;
}

planish_status planish_choose_variant(planish_context *context) {
  const planish_module *module = context->model->module;
  if (!module->n_variants) return PLANISH_OK;
  for (uint32_t v = 0; v < module->n_variants; v++)
    if (fits(context, module->variants[v], true)) return choose(context, module->variants[v]);
  for (uint32_t v = module->n_variants;
       v-- > 0;) /* a size is wrong: the last of its ranks, which is general, says it */
    if (fits(context, module->variants[v], false)) return choose(context, module->variants[v]);
  return say_none(context);
}
