/* Values of shape symbols: from the dimensions of inputs, then from the contents of integer inputs; and what must hold. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define UNBOUND UINT32_MAX

/* First use binds a symbol, later uses must agree. `binder`: the input that bound it, or UNBOUND. */
static planish_status bind_dimensions(planish_context *context, uint32_t *binder) {
  const planish_module *module = context->module;
  for (uint32_t i = 0; i < module->n_inputs; i++) {
    const planish_io_spec *spec = &module->inputs[i];
    planish_quoted name, symbol_name, other;
    for (int32_t d = 0; d < spec->rank; d++) {
      if (spec->dims[d] >= 0) continue;
      int64_t symbol = -(spec->dims[d] + 1), value = context->inputs[i].shape[d];
      if (binder[symbol] == UNBOUND) {
        context->symbols[symbol] = value;
        binder[symbol] = i;
      } else if (context->symbols[symbol] != value) {
        return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                           "input %s: dimension %d, which is %s: expected %" PRId64 " as in input %s, got %" PRId64,
                           planish_quote(&name, spec->name), d, planish_quote(&symbol_name, module->symbols[symbol]),
                           context->symbols[symbol], planish_quote(&other, module->inputs[binder[symbol]].name), value);
      }
    }
  }
  return PLANISH_OK;
}

/* The element that a binding reads; false if the input does not have it. */
static bool read_bound(const planish_context *context, const planish_binding *binding, int64_t *value) {
  const planish_slot *slot = &context->inputs[binding->input];
  int64_t size = slot->tensor.dtype.bits / 8, single;
  if (slot->tensor.dtype.code != 0 || (size != 4 && size != 8)) return false; /* not i32 or i64 */
  if (binding->element < 0 || binding->element >= slot->bytes / size) return false;
  const uint8_t *at = (const uint8_t *)slot->tensor.data + binding->element * size;
  int32_t narrow;
  if (size == 8) {
    memcpy(&single, at, 8);
  } else {
    memcpy(&narrow, at, 4);
    single = narrow;
  }
  *value = single;
  return true;
}

bool planish_same_bindings(const planish_context *context) {
  const planish_module *module = context->module;
  for (uint32_t b = 0; b < module->n_bindings; b++) {
    int64_t value;
    if (!read_bound(context, &module->bindings[b], &value)) return false;
    if (value != context->symbols[module->bindings[b].symbol]) return false;
  }
  return true;
}

/* "node 'x': " or nothing. */
static void say_node(const planish_context *context, int32_t node, char *text, size_t size) {
  planish_quoted name;
  text[0] = 0;
  if (node >= 0) snprintf(text, size, "node %s: ", planish_node_name(context, node, &name));
}

static planish_status bind_contents(planish_context *context, uint32_t *binder) {
  const planish_module *module = context->module;
  char where[200];
  planish_quoted name;
  for (uint32_t b = 0; b < module->n_bindings; b++) {
    const planish_binding *binding = &module->bindings[b];
    int64_t value, *known = &context->symbols[binding->symbol];
    planish_quote(&name, module->inputs[binding->input].name);
    say_node(context, binding->node, where, sizeof where);
    if (!read_bound(context, binding, &value))
      return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                         "%sinput %s: expected integers, more than %" PRId64 " of them", where, name.text,
                         binding->element);
    if (binding->flags & PLANISH_BINDING_SIZE && value < 0)
      return planish_say(&context->message, PLANISH_FAILED,
                         "%sinput %s: element %" PRId64 " is a size: expected 0 or more, got %" PRId64, where,
                         name.text, binding->element, value);
    if (binder[binding->symbol] != UNBOUND && *known != value)
      return planish_say(&context->message, PLANISH_FAILED,
                         "%sinput %s: element %" PRId64 ": expected %" PRId64 " as in input %s, got %" PRId64, where,
                         name.text, binding->element, *known,
                         planish_quote(&(planish_quoted){""}, module->inputs[binder[binding->symbol]].name), value);
    *known = value;
    binder[binding->symbol] = binding->input;
  }
  return PLANISH_OK;
}

/* " (N = 5, M = 3)" */
static void list_values(const planish_context *context, const planish_check *check, char *text, size_t size) {
  size_t used = 0;
  text[0] = 0;
  for (uint32_t i = 0; i < check->n_symbols && used + 100 < size; i++) {
    const char *name = context->module->symbols[check->symbols[i]];
    used += (size_t)snprintf(text + used, size - used, "%s%.60s = %" PRId64, i ? ", " : " (", name,
                             context->symbols[check->symbols[i]]);
  }
  if (used) snprintf(text + used, size - used, ")");
}

static planish_status run_checks(planish_context *context) {
  const planish_module *module = context->module;
  int64_t value = 0;
  int32_t failed = module->check && module->n_checks ? module->check(context->symbols, &value) : -1;
  if (failed < 0 || (uint32_t)failed >= module->n_checks) return PLANISH_OK;
  const planish_check *check = &module->checks[failed];
  char where[200], values[400];
  say_node(context, check->node, where, sizeof where);
  list_values(context, check, values, sizeof values);
  return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "%s%s: %s%sexpected %s, got %" PRId64 "%s", where,
                     check->message, check->text ? check->text : "", check->text ? ": " : "",
                     check->kind ? "0 or more" : "0", value, values);
}

/* The dimension of an input that is just this symbol. */
static int32_t dimension_of(const planish_io_spec *spec, uint32_t symbol) {
  for (int32_t d = 0; d < spec->rank; d++)
    if (spec->dims[d] == -(int64_t)symbol - 1) return d;
  return -1;
}

/* Sizes that the model was compiled for. A version for one size has no symbol for it. */
static planish_status check_ranges(planish_context *context, const uint32_t *binder) {
  const planish_module *whole = context->model->module, *module = context->module;
  planish_quoted name, symbol;
  for (uint32_t r = 0; r < whole->n_ranges; r++) {
    const planish_symbol_range *range = &whole->ranges[r];
    int64_t value = context->symbols[range->symbol];
    if (binder[range->symbol] == UNBOUND || (value >= range->low && value <= range->high)) continue;
    const planish_io_spec *spec = &module->inputs[binder[range->symbol]];
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                       "input %s: dimension %d, which is %s: expected %" PRId64 " to %" PRId64
                       ", for which the model was compiled, got %" PRId64,
                       planish_quote(&name, spec->name), dimension_of(spec, range->symbol),
                       planish_quote(&symbol, whole->symbols[range->symbol]), range->low, range->high, value);
  }
  return PLANISH_OK;
}

planish_status planish_bind_symbols(planish_context *context) {
  uint32_t count = context->module->n_symbols, binder[count + 1];
  for (uint32_t s = 0; s < count; s++) {
    context->symbols[s] = -1;
    binder[s] = UNBOUND;
  }
  planish_status status = bind_dimensions(context, binder);
  if (!status) status = check_ranges(context, binder);
  if (!status) status = bind_contents(context, binder);
  return status ? status : run_checks(context);
}
