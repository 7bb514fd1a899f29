/* The walker of plans: steps over objects in slots; what straight code cannot do. docs/HOST.md says what the steps mean. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define DEPTH 500 /* of plans in plans: models come from anybody */

static planish_status walk(planish_host *host, const planish_plan *plan, planish_object **slots,
                           planish_object **results);

/* The slots of a plan, and behind them room for the operands and results of its largest step. */
static planish_object **new_slots(const planish_plan *plan) {
  size_t most = 0;
  for (uint32_t s = 0; s < plan->n_steps; s++) {
    size_t ports = (size_t)plan->steps[s].n_in + plan->steps[s].n_out;
    if (ports > most) most = ports;
  }
  return calloc((size_t)plan->n_slots + most + 1, sizeof(planish_object *));
}

static void free_slots(const planish_plan *plan, planish_object **slots) {
  for (uint32_t i = 0; slots && i < plan->n_slots; i++) planish_release(slots[i]);
  free(slots);
}

static void clear_slots(const planish_plan *plan, planish_object **slots) {
  for (uint32_t i = 0; i < plan->n_slots; i++) {
    planish_release(slots[i]);
    slots[i] = NULL;
  }
}

/* Give parameter `index` a reference that the caller had. */
static void set_param(const planish_plan *plan, planish_object **slots, uint32_t index, planish_object *object) {
  int32_t slot = plan->params[index];
  if (slot < 0) planish_release(object);
  else slots[slot] = object;
}

static bool truth(planish_host *host, const planish_object *object, const char *what, bool *value) {
  if (!object || object->kind != PLANISH_OBJECT_TENSOR || object->count != 1 || object->dtype.bits != 8) {
    planish_host_fail(host, PLANISH_FAILED, "%s: expected one bool", what);
    return false;
  }
  *value = *(const uint8_t *)object->data != 0;
  return true;
}

/* ---- if ---- */
static planish_status run_if(planish_host *host, const planish_step *step, planish_object *const *in,
                             planish_object **out) {
  bool condition;
  if (!truth(host, in[0], "the condition", &condition)) return PLANISH_FAILED;
  const planish_plan *plan = ((const planish_plan *const *)step->target)[condition ? 0 : 1];
  if (plan->n_params != step->n_in - 1 || plan->n_results != step->n_out)
    return planish_host_fail(host, PLANISH_FAILED, "a branch does not fit: internal error");
  planish_object **slots = new_slots(plan);
  if (!slots) return planish_host_no_memory(host);
  for (uint32_t p = 0; p < plan->n_params; p++) set_param(plan, slots, p, planish_retain(in[p + 1]));
  planish_status status = walk(host, plan, slots, out);
  free_slots(plan, slots);
  return status;
}

/* ---- loop ---- */
typedef struct loop {
  const planish_plan *body;
  uint32_t n_carried, n_scanned, n_captured;
  planish_object *const *captured;
  planish_object **slots, **results, **carried;
  planish_object ***scanned; /* for each scanned value, that of each round */
  int64_t rounds, room;
} loop;

static planish_status grow_scanned(planish_host *host, loop *l) {
  if (l->rounds < l->room || !l->n_scanned) return PLANISH_OK;
  int64_t room = l->room ? l->room * 2 : 16;
  if (room > INT64_MAX / 16) return planish_host_no_memory(host);
  for (uint32_t k = 0; k < l->n_scanned; k++) {
    planish_object **grown = realloc(l->scanned[k], (size_t)room * sizeof *grown);
    if (!grown) return planish_host_no_memory(host);
    l->scanned[k] = grown;
  }
  l->room = room;
  return PLANISH_OK;
}

static planish_status run_round(planish_host *host, loop *l, bool *go) {
  planish_status status = grow_scanned(host, l);
  if (status) return status;
  planish_object *round = planish_host_i64(host, l->rounds);
  if (!round) return PLANISH_OUT_OF_MEMORY;
  set_param(l->body, l->slots, 0, round);
  for (uint32_t k = 0; k < l->n_carried; k++) { /* handed over: the body may be the only one that has it */
    set_param(l->body, l->slots, 1 + k, l->carried[k]);
    l->carried[k] = NULL;
  }
  for (uint32_t k = 0; k < l->n_captured; k++)
    set_param(l->body, l->slots, 1 + l->n_carried + k, planish_retain(l->captured[k]));
  status = walk(host, l->body, l->slots, l->results);
  clear_slots(l->body, l->slots);
  if (status) return status;
  *go = true;
  if (l->results[0] && !truth(host, l->results[0], "the condition of the loop", go)) status = PLANISH_FAILED;
  planish_release(l->results[0]);
  memcpy(l->carried, l->results + 1, l->n_carried * sizeof *l->carried);
  for (uint32_t k = 0; k < l->n_scanned; k++) l->scanned[k][l->rounds] = l->results[1 + l->n_carried + k];
  memset(l->results, 0, (1 + (size_t)l->n_carried + l->n_scanned) * sizeof *l->results);
  l->rounds++;
  return status;
}

/* What is scanned when there was no round: of the type and dimensions that are declared, 0 where those are not known. */
static planish_object *stack_nothing(planish_host *host, const planish_step *step, uint32_t index) {
  const planish_attribute *types = planish_find_attribute(step, "scanned");
  char name[16] = "dims0";
  uint32_t at = 4;
  if (index >= 1000 || !types || index >= types->count) {
    planish_host_fail(host, PLANISH_FAILED, "no round: the type of scanned value %u is not known", index);
    return NULL;
  }
  if (index >= 100) name[at++] = (char)('0' + index / 100);
  if (index >= 10) name[at++] = (char)('0' + index / 10 % 10);
  name[at++] = (char)('0' + index % 10);
  name[at] = 0;
  const planish_attribute *dims = planish_find_attribute(step, name);
  int64_t shape[PLANISH_MAX_RANK] = {0};
  int32_t rank = 1;
  for (uint32_t d = 0; dims && d < dims->count && rank < PLANISH_MAX_RANK; d++) {
    int64_t dim = planish_attribute_int(dims, d);
    shape[rank++] = dim < 0 ? 0 : dim;
  }
  const char *dtype = ((const char *const *)types->data)[index];
  return strcmp(dtype, "string") ? planish_host_tensor(host, dtype, rank, shape)
                                 : planish_host_strings(host, rank, shape);
}

/* The values of all rounds along a new first dimension. */
static planish_object *stack(planish_host *host, planish_object *const *items, int64_t rounds, uint32_t index) {
  int64_t shape[PLANISH_MAX_RANK];
  for (int64_t i = 0; i < rounds; i++) {
    const planish_object *item = items[i], *first = items[0];
    bool array = item && (item->kind == PLANISH_OBJECT_TENSOR || item->kind == PLANISH_OBJECT_STRINGS);
    bool same = array && item->kind == first->kind && item->rank == first->rank &&
                !memcmp(&item->dtype, &first->dtype, sizeof item->dtype) && item->rank < PLANISH_MAX_RANK;
    for (int32_t d = 0; same && d < item->rank; d++) same = item->shape[d] == first->shape[d];
    if (same) continue;
    planish_shape_text one, other;
    planish_host_fail(host, PLANISH_FAILED,
                      "scanned value %u: round %" PRId64 ": expected the type and shape of round 0, %s, got %s", index,
                      i, first ? planish_show_shape(&one, first->rank, first->shape) : "nothing",
                      array ? planish_show_shape(&other, item->rank, item->shape) : "what is no tensor");
    return NULL;
  }
  shape[0] = rounds;
  if (items[0]->rank) memcpy(shape + 1, items[0]->shape, (size_t)items[0]->rank * sizeof *shape);
  planish_object *out = planish_host_like(host, items[0], items[0]->rank + 1, shape);
  for (int64_t i = 0; out && i < rounds; i++) {
    if (!planish_put(host, out, items[i], 0, items[i]->count)) continue;
    planish_release(out);
    return NULL;
  }
  return out;
}

static planish_status finish_loop(planish_host *host, const planish_step *step, loop *l, planish_object **out) {
  for (uint32_t k = 0; k < l->n_carried; k++) {
    out[k] = l->carried[k];
    l->carried[k] = NULL;
  }
  for (uint32_t k = 0; k < l->n_scanned; k++) {
    if (step->out[l->n_carried + k] < 0) continue;
    planish_object *all = l->rounds ? stack(host, l->scanned[k], l->rounds, k) : stack_nothing(host, step, k);
    if (!all) return PLANISH_FAILED;
    out[l->n_carried + k] = all;
  }
  return PLANISH_OK;
}

static planish_status start_loop(planish_host *host, const planish_step *step, planish_object *const *in, loop *l) {
  int64_t carried = planish_int_attribute(step, "carried", -1);
  const planish_plan *body = *(const planish_plan *const *)step->target;
  bool fits = step->n_in >= 2 && carried >= 0 && carried <= (int64_t)step->n_in - 2 &&
              carried <= (int64_t)step->n_out && body->n_params == step->n_in - 1 && body->n_results == step->n_out + 1;
  if (!fits) return planish_host_fail(host, PLANISH_FAILED, "the body does not fit: internal error");
  *l = (loop){.body = body, .n_carried = (uint32_t)carried};
  l->n_scanned = step->n_out - l->n_carried;
  l->n_captured = step->n_in - 2 - l->n_carried;
  l->captured = in + 2 + carried;
  l->slots = new_slots(body);
  l->results = calloc((size_t)body->n_results + 1, sizeof *l->results);
  l->carried = calloc((size_t)carried + 1, sizeof *l->carried);
  l->scanned = calloc((size_t)l->n_scanned + 1, sizeof *l->scanned);
  if (!l->slots || !l->results || !l->carried || !l->scanned) return planish_host_no_memory(host);
  for (uint32_t k = 0; k < l->n_carried; k++) l->carried[k] = planish_retain(in[2 + k]);
  return PLANISH_OK;
}

static void end_loop(loop *l) {
  if (!l->body) return;
  for (uint32_t k = 0; l->results && k < l->body->n_results; k++) planish_release(l->results[k]);
  for (uint32_t k = 0; l->carried && k < l->n_carried; k++) planish_release(l->carried[k]);
  for (uint32_t k = 0; l->scanned && k < l->n_scanned; k++) {
    for (int64_t i = 0; i < l->rounds; i++) planish_release(l->scanned[k][i]);
    free(l->scanned[k]);
  }
  free_slots(l->body, l->slots);
  free(l->results);
  free(l->carried);
  free(l->scanned);
}

static planish_status run_loop(planish_host *host, const planish_step *step, planish_object *const *in,
                               planish_object **out) {
  loop l = {0};
  int64_t limit = INT64_MAX;
  bool go = true;
  planish_status status = start_loop(host, step, in, &l);
  if (!status && !planish_is_absent(in[0]) && !planish_integer(host, in, 0, &limit)) status = PLANISH_FAILED;
  if (!status && !planish_is_absent(in[1]) && !truth(host, in[1], "the condition", &go)) status = PLANISH_FAILED;
  while (!status && go && l.rounds < limit) {
    status = planish_look_at_limits(host->context->control, &host->context->message);
    if (!status) status = run_round(host, &l, &go);
    host->step = step;
  }
  if (!status) status = finish_loop(host, step, &l, out);
  end_loop(&l);
  return status;
}

/* ---- steps ---- */
static planish_status run_step(planish_host *host, const planish_step *step, planish_object *const *in,
                               planish_object **out) {
  switch (step->code) {
    case PLANISH_STEP_RUN: return planish_run_island(host, in, out);
    case PLANISH_STEP_CALL: return ((planish_host_function *)(uintptr_t)step->target)(host, step, in, out);
    case PLANISH_STEP_IF: return run_if(host, step, in, out);
    case PLANISH_STEP_LOOP: return run_loop(host, step, in, out);
    case PLANISH_STEP_CONSTANT:
      out[0] = step->target ? planish_constant_object(host, step->target) : planish_absent_new(host->budget);
      return out[0] ? PLANISH_OK : planish_host_no_memory(host);
    default: return planish_host_fail(host, PLANISH_FAILED, "unknown step %d: internal error", step->code);
  }
}

static planish_status take_step(planish_host *host, const planish_plan *plan, const planish_step *step,
                                planish_object **slots) {
  planish_object **in = slots + plan->n_slots, **out = in + step->n_in;
  for (uint32_t i = 0; i < step->n_in; i++) in[i] = step->in[i] < 0 ? NULL : slots[step->in[i]];
  memset(out, 0, step->n_out * sizeof *out);
  host->step = step;
  planish_status status = planish_look_at_limits(host->context->control, &host->context->message);
  if (!status) status = run_step(host, step, in, out);
  for (uint32_t i = 0; i < step->n_out; i++) {
    int32_t slot = step->out[i];
    if (slot < 0 || status) {
      planish_release(out[i]);
    } else {
      planish_release(slots[slot]);
      slots[slot] = out[i];
    }
  }
  for (uint32_t i = 0; i < step->n_free; i++) {
    planish_release(slots[step->free[i]]);
    slots[step->free[i]] = NULL;
  }
  return status;
}

/* Walk through a plan whose parameters are in the slots; `results` get references of their own. */
static planish_status walk(planish_host *host, const planish_plan *plan, planish_object **slots,
                           planish_object **results) {
  planish_status status = PLANISH_OK;
  if (host->depth >= DEPTH) return planish_host_fail(host, PLANISH_FAILED, "control flow is nested too deep");
  host->depth++;
  for (uint32_t s = 0; s < plan->n_steps && !status; s++) status = take_step(host, plan, &plan->steps[s], slots);
  host->depth--;
  for (uint32_t r = 0; r < plan->n_results && !status; r++)
    results[r] = plan->results[r] < 0 ? NULL : planish_retain(slots[plan->results[r]]);
  return status;
}

/* ---- the outermost plan ---- */
static planish_host *get_host(planish_context *context) {
  if (!context->host) {
    context->host = calloc(1, sizeof *context->host);
    if (!context->host) return NULL;
    context->host->context = context;
    context->host->budget = &context->control->budget;
  }
  return context->host;
}

void planish_plan_destroy(planish_context *context) {
  planish_host *host = context->host;
  for (uint32_t i = 0; host && i < host->kept_room; i++)
    if (host->kept[i].key) host->kept[i].destroy(host->kept[i].value);
  if (host) free(host->kept);
  free(host);
  context->host = NULL;
}

static planish_object *input_object(planish_host *host, uint32_t index) {
  const planish_slot *slot = &host->context->inputs[index];
  if (slot->object) return planish_retain(slot->object);
  return planish_tensor_borrow(host->budget, slot->tensor.dtype, slot->tensor.ndim, slot->shape, slot->tensor.data);
}

/* A result becomes an output: a view of the object, or copied to where the caller wants it. */
static planish_status deliver(planish_context *context, uint32_t index, planish_object *object) {
  planish_slot *slot = &context->outputs[index];
  const planish_io_spec *spec = &context->module->outputs[index];
  planish_quoted quoted;
  planish_shape_text expected, got;
  const char *name = planish_quote(&quoted, spec->name);
  bool tensor = object->kind == PLANISH_OBJECT_TENSOR;
  if (tensor && spec->rank >= 0 && spec->rank != object->rank)
    return planish_say(&context->message, PLANISH_FAILED, "output %s: rank: expected %d, got %d", name, spec->rank,
                       object->rank);
  if (slot->bound) {
    bool same = tensor && slot->tensor.ndim == object->rank && slot->bytes == object->bytes;
    for (int32_t d = 0; same && d < object->rank; d++) same = slot->shape[d] == object->shape[d];
    if (!same)
      return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                         "output %s: shape of the buffer: expected %s, got %s", name,
                         planish_show_shape(&expected, tensor ? object->rank : 0, object->shape),
                         planish_show_shape(&got, slot->tensor.ndim, slot->shape));
    if (slot->bytes) memmove(slot->tensor.data, object->data, (size_t)slot->bytes);
    return PLANISH_OK;
  }
  slot->object = planish_retain(object);
  slot->tensor = (planish_tensor){.ndim = -1, .shape = slot->shape};
  if (!tensor) return PLANISH_OK;
  slot->tensor = (planish_tensor){object->data, {1, 0}, object->rank, object->dtype, slot->shape, NULL, 0};
  if (object->rank) memcpy(slot->shape, object->shape, (size_t)object->rank * sizeof(int64_t));
  slot->bytes = object->bytes;
  return PLANISH_OK;
}

static planish_status walk_outermost(planish_host *host, planish_object **slots, planish_object **results) {
  planish_context *context = host->context;
  const planish_plan *plan = context->module->plan;
  for (uint32_t p = 0; p < plan->n_params; p++) {
    planish_object *object = input_object(host, p);
    if (!object) return planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "%s", planish_no_memory(host->budget));
    set_param(plan, slots, p, object);
  }
  planish_status status = walk(host, plan, slots, results);
  for (uint32_t r = 0; r < plan->n_results && !status; r++) {
    if (!results[r]) results[r] = planish_absent_new(host->budget);
    status = results[r] ? deliver(context, r, results[r])
                        : planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "out of memory");
  }
  return status;
}

planish_status planish_run_plan(planish_context *context) {
  const planish_plan *plan = context->module->plan;
  planish_host *host = get_host(context);
  context->prepared = false;
  planish_drop_outputs(context);
  if (plan->n_params != context->module->n_inputs || plan->n_results != context->module->n_outputs)
    return planish_say(&context->message, PLANISH_FAILED, "the plan does not fit the model: internal error");
  planish_object **slots = new_slots(plan), **results = calloc((size_t)plan->n_results + 1, sizeof *results);
  planish_status status = host && slots && results
                              ? walk_outermost(host, slots, results)
                              : planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "out of memory");
  for (uint32_t r = 0; results && r < plan->n_results; r++) planish_release(results[r]);
  free_slots(plan, slots);
  free(results);
  if (status) planish_drop_outputs(context);
  context->prepared = status == PLANISH_OK;
  return status;
}
