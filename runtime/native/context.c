/* The context: what is bound to a model's inputs and outputs, the memory of one call, and its error. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "object.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define AT_ONCE ((size_t)8 << 20)
#ifndef MADV_POPULATE_WRITE
#ifdef __linux__
#define MADV_POPULATE_WRITE 23 /* an error before Linux 5.14, which is ignored */
#endif
#endif

static void free_slots(planish_slot *slots, uint32_t count) {
  for (uint32_t i = 0; slots && i < count; i++) {
    planish_release(slots[i].object);
    free(slots[i].shape);
    free(slots[i].owned);
  }
  free(slots);
}

static void free_memory(planish_memory *memory) {
  free(memory->arena);
  free(memory->scratch);
  *memory = (planish_memory){0};
}

void planish_context_destroy(planish_context *context) {
  if (!context) return;
  planish_plan_destroy(context);
  free_slots(context->inputs, context->model->module->n_inputs);
  free_slots(context->outputs, context->model->module->n_outputs);
  free(context->states);
  free(context->env.inputs);
  free(context->env.outputs);
  free(context->symbols);
  free(context->sizes);
  free_memory(&context->own_memory);
  free(context->profile.marks);
  free(context);
}

static planish_slot *make_slots(const planish_io_spec *specs, uint32_t count) {
  planish_slot *slots = calloc((size_t)count + 1, sizeof *slots);
  for (uint32_t i = 0; slots && i < count; i++) {
    size_t rank = specs[i].rank < 0 ? PLANISH_MAX_RANK : (size_t)specs[i].rank;
    slots[i].shape = calloc(rank + 1, sizeof(int64_t));
    slots[i].tensor.shape = slots[i].shape;
    if (!slots[i].shape) {
      free_slots(slots, count);
      return NULL;
    }
  }
  return slots;
}

static bool allocate_parts(planish_context *context) {
  const planish_module *module = context->model->module;
  size_t n_sizes = 2;
  for (uint32_t i = 0; i < module->n_outputs; i++)
    n_sizes += module->outputs[i].rank < 0 ? PLANISH_MAX_RANK : (size_t)module->outputs[i].rank;
  context->inputs = make_slots(module->inputs, module->n_inputs);
  context->outputs = make_slots(module->outputs, module->n_outputs);
  context->env.inputs = calloc((size_t)module->n_inputs + 1, sizeof(void *));
  context->env.outputs = calloc((size_t)module->n_outputs + 1, sizeof(void *));
  context->symbols = calloc((size_t)module->n_symbols + 1, sizeof(int64_t));
  context->sizes = calloc(n_sizes, sizeof(int64_t));
  return context->inputs && context->outputs && context->env.inputs && context->env.outputs && context->symbols &&
         context->sizes;
}

planish_status planish_context_create(const planish_model *model, planish_pool *pool, int32_t threads,
                                      planish_context **context, planish_message *message) {
  *context = NULL;
  if (!model) return planish_say(message, PLANISH_INVALID_ARGUMENT, "context: model: expected a model, got NULL");
  if (model->abi_version != PLANISH_ABI_VERSION || (pool && pool->version != PLANISH_API_VERSION))
    return planish_say(message, PLANISH_VERSION_MISMATCH,
                       "context: the model or the pool comes from a library of another interface version");
  if (!pool) pool = planish_default_pool();
  planish_context *made = calloc(1, sizeof *made);
  if (!made || !pool) {
    free(made);
    return planish_say(message, PLANISH_OUT_OF_MEMORY, "context: out of memory");
  }
  made->model = model;
  made->module = model->module;
  made->pool = pool;
  made->threads = threads > 0 && threads < pool->size ? threads : pool->size;
  if (!allocate_parts(made)) {
    planish_context_destroy(made);
    return planish_say(message, PLANISH_OUT_OF_MEMORY, "context: out of memory");
  }
  made->memory = &made->own_memory;
  made->control = &made->own_control;
  made->env.weights = model->weights;
  made->env.symbols = made->symbols;
  if (planish_make_states(made)) {
    planish_context_destroy(made);
    return planish_say(message, PLANISH_OUT_OF_MEMORY, "context: no memory for what the model keeps from run to run");
  }
  planish_pool_start(pool, made->threads); /* they wake up while the inputs are read */
  *context = made;
  return PLANISH_OK;
}

const char *planish_context_error(const planish_context *context) { return context->message.text; }
int32_t planish_context_threads(const planish_context *context) { return context->threads; }
int64_t planish_arena_bytes(const planish_context *context) { return context->sizes[0]; }

/* Hints to the kernel for memory that a run will use: huge pages; and small blocks at once, since a fault for each page
 * would take longer than the page's use (a quarter of SqueezeNet's first run). Large blocks come as they are used, on
 * the core that uses them. */
static void settle(void *memory, size_t size) {
#ifdef MADV_HUGEPAGE
  if (size >= HUGE_PAGE) (void)!madvise(memory, size, MADV_HUGEPAGE);
#endif
#ifdef MADV_POPULATE_WRITE
  if (size <= AT_ONCE) (void)!madvise(memory, size, MADV_POPULATE_WRITE);
#endif
}

/* Make `*memory` hold at least `bytes`, aligned to 4096. */
static bool reserve(planish_budget *budget, void **memory, int64_t *capacity, int64_t bytes) {
  if (bytes <= *capacity && *memory) return true;
  free(*memory);
  planish_charge(budget, -*capacity);
  *memory = NULL;
  *capacity = 0;
  if (bytes > INT64_MAX - 4095) return false;
  size_t size = ((size_t)bytes + 4095) & ~(size_t)4095;
  if (!size) size = 4096;
  if (size >= HUGE_PAGE && -size % HUGE_PAGE <= HUGE_PAGE / 4) size += -size % HUGE_PAGE; /* one page instead of many */
  size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : 4096;
  if (!planish_charge(budget, (int64_t)size)) return false;
  if (posix_memalign(memory, alignment, size)) {
    planish_charge(budget, -(int64_t)size);
    *memory = NULL;
    return false;
  }
  settle(*memory, size);
  *capacity = (int64_t)size;
  return true;
}

static planish_status check_bound(planish_context *context) {
  const planish_module *module = context->model->module;
  planish_quoted name;
  for (uint32_t i = 0; i < module->n_inputs; i++)
    if (!context->inputs[i].bound)
      return planish_say(&context->message, PLANISH_NOT_READY, "input %s is not set",
                         planish_quote(&name, module->inputs[i].name));
  return PLANISH_OK;
}

/* The end of a message about memory. */
static const char *limited(const planish_context *context) {
  return context->control->budget.limit ? " within the limit of this context" : "";
}

static planish_status fit_output(planish_context *context, uint32_t index, const int64_t *dims) {
  const planish_io_spec *spec = &context->module->outputs[index];
  planish_slot *slot = &context->outputs[index];
  const planish_dtype_info *type = planish_dtype_find(spec->dtype);
  planish_quoted name;
  int64_t bytes = type ? planish_tensor_bytes(type->dtype, spec->rank, dims) : -1;
  if (bytes < 0)
    return planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "output %s is too large or of an unknown type",
                       planish_quote(&name, spec->name));
  if (slot->bound && slot->tensor.ndim != spec->rank)
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                       "output %s: rank of the buffer: expected %d, got %d", planish_quote(&name, spec->name),
                       spec->rank, slot->tensor.ndim);
  for (int32_t d = 0; slot->bound && d < spec->rank; d++)
    if (slot->shape[d] != dims[d])
      return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                         "output %s: dimension %d of the buffer: expected %" PRId64 ", got %" PRId64,
                         planish_quote(&name, spec->name), d, dims[d], slot->shape[d]);
  if (!slot->bound) {
    if (!reserve(&context->control->budget, &slot->owned, &slot->capacity, bytes))
      return planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "output %s: no memory for %" PRId64 " bytes%s",
                         planish_quote(&name, spec->name), bytes, limited(context));
    if (spec->rank) memcpy(slot->shape, dims, (size_t)spec->rank * sizeof *dims);
    slot->tensor = (planish_tensor){slot->owned, {1, 0}, spec->rank, type->dtype, slot->shape, NULL, 0};
  }
  slot->bytes = bytes;
  context->env.outputs[index] = slot->tensor.data;
  return PLANISH_OK;
}

/* A kernel may write an output while inputs are still to be read. */
static planish_status check_overlap(planish_context *context, uint32_t output) {
  const planish_module *module = context->module;
  const planish_slot *out = &context->outputs[output];
  uintptr_t out_begin = (uintptr_t)out->tensor.data, out_end = out_begin + (uintptr_t)out->bytes;
  planish_quoted name, other;
  if (!out->bound || !out->bytes) return PLANISH_OK;
  for (uint32_t i = 0; i < module->n_inputs + module->n_outputs; i++) {
    bool is_input = i < module->n_inputs;
    const planish_slot *slot = is_input ? &context->inputs[i] : &context->outputs[i - module->n_inputs];
    uintptr_t begin = (uintptr_t)slot->tensor.data, end = begin + (uintptr_t)slot->bytes;
    if (slot == out || !slot->bound || begin >= out_end || out_begin >= end) continue;
    const char *theirs = is_input ? module->inputs[i].name : module->outputs[i - module->n_inputs].name;
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "output %s: its buffer overlaps that of %s %s",
                       planish_quote(&name, module->outputs[output].name), is_input ? "input" : "output",
                       planish_quote(&other, theirs));
  }
  return PLANISH_OK;
}

static planish_status fit_outputs(planish_context *context) {
  const planish_module *module = context->module;
  const int64_t *dims = context->sizes + 2;
  planish_status status = PLANISH_OK;
  for (uint32_t i = 0; i < module->n_outputs && !status; i++) {
    status = fit_output(context, i, dims);
    dims += module->outputs[i].rank;
  }
  for (uint32_t i = 0; i < module->n_outputs && !status; i++) status = check_overlap(context, i);
  return status;
}

planish_status planish_infer_shapes(planish_context *context) {
  if (context->inferred && planish_same_bindings(context)) return PLANISH_OK;
  context->inferred = context->prepared = false;
  planish_drop_outputs(context);
  planish_status status = check_bound(context);
  if (!status) status = planish_choose_variant(context);
  if (!status) status = planish_bind_symbols(context);
  if (status) return status;
  if (context->module->sizes) context->module->sizes(context->symbols, context->sizes);
  context->inferred = true;
  return PLANISH_OK;
}

static planish_status get_memory(planish_context *context) {
  int64_t arena = context->sizes[0], stride = context->sizes[1], scratch;
  planish_memory *memory = context->memory;
  planish_budget *budget = &context->control->budget;
  bool fits = arena >= 0 && stride >= 0 && stride <= INT64_MAX - 64;
  stride = fits ? (stride + 63) / 64 * 64 : 0;
  fits = fits && !__builtin_mul_overflow(stride, (int64_t)context->threads, &scratch) &&
         reserve(budget, &memory->arena, &memory->arena_capacity, arena) &&
         reserve(budget, &memory->scratch, &memory->scratch_capacity, scratch);
  if (!fits)
    return planish_say(&context->message, PLANISH_OUT_OF_MEMORY,
                       "no memory for this call: %" PRId64 " bytes of arena, %" PRId64
                       " bytes for each of %d threads%s",
                       arena, context->sizes[1], context->threads, limited(context));
  context->env.scratch_stride = stride;
  return PLANISH_OK;
}

/* Shapes of a plan's outputs are known after the run; the caller's buffers must not overlap what is read. */
static planish_status check_overlaps(planish_context *context) {
  planish_status status = PLANISH_OK;
  for (uint32_t i = 0; i < context->module->n_outputs && !status; i++) status = check_overlap(context, i);
  return status;
}

planish_status planish_prepare(planish_context *context) {
  if (context->prepared && context->inferred && planish_same_bindings(context)) return PLANISH_OK;
  planish_status status = planish_infer_shapes(context);
  if (status) return status;
  if (context->module->plan) return check_overlaps(context);
  status = get_memory(context);
  if (!status) status = fit_outputs(context);
  context->prepared = status == PLANISH_OK;
  return status;
}

static planish_status run(planish_context *context) {
  atomic_store(&context->failed, 0);
  context->env.arena = context->memory->arena; /* islands share it, so that it may have moved */
  context->env.scratch = context->memory->scratch;
  int32_t result = context->module->run(&context->env);
  planish_status failed = atomic_load(&context->failed);
  if (failed) return failed;
  if (result)
    return planish_say(&context->message, PLANISH_FAILED, "the compiled code failed with status %d", result);
  return PLANISH_OK;
}

planish_status planish_invoke(planish_context *context) {
  bool outermost = context->control == &context->own_control;
  if (outermost) planish_begin_limits(context->control);
  planish_status status = planish_look_at_limits(context->control, &context->message);
  if (!status) status = planish_prepare(context);
  if (!status) status = context->module->plan ? planish_run_plan(context) : run(context);
  if (!status && context->states) planish_advance_states(context);
  if (outermost) planish_end_limits(context->control);
  return status;
}

void planish_drop_outputs(planish_context *context) {
  for (uint32_t i = 0; i < context->model->module->n_outputs; i++) {
    planish_release(context->outputs[i].object);
    context->outputs[i].object = NULL;
  }
}

planish_status planish_context_set_limits(planish_context *context, int64_t max_bytes, double seconds) {
  planish_control *control = &context->own_control;
  if (max_bytes < 0 || !(seconds >= 0))
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "limits: expected 0 (none) or more");
  control->seconds = seconds;
  control->budget.limit = max_bytes;
  if (!max_bytes || control->budget.used <= max_bytes) return PLANISH_OK;
  planish_plan_destroy(context); /* what is kept from run to run is more than that: start anew */
  planish_drop_outputs(context);
  planish_charge(&control->budget, -(context->memory->arena_capacity + context->memory->scratch_capacity));
  free_memory(context->memory);
  for (uint32_t i = 0; i < context->model->module->n_outputs; i++) {
    planish_slot *slot = &context->outputs[i];
    planish_charge(&control->budget, -slot->capacity);
    free(slot->owned);
    slot->owned = NULL;
    slot->capacity = 0;
  }
  context->prepared = false;
  return PLANISH_OK;
}
