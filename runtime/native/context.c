/* The context: what is bound to a model's inputs and outputs, the memory of one call, and its error. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#define HUGE_PAGE ((size_t)2 << 20)

static void free_slots(planish_slot *slots, uint32_t count) {
  for (uint32_t i = 0; slots && i < count; i++) {
    free(slots[i].shape);
    free(slots[i].owned);
  }
  free(slots);
}

void planish_context_destroy(planish_context *context) {
  if (!context) return;
  free_slots(context->inputs, context->model->module->n_inputs);
  free_slots(context->outputs, context->model->module->n_outputs);
  free(context->env.inputs);
  free(context->env.outputs);
  free(context->symbols);
  free(context->sizes);
  free(context->arena_memory);
  free(context->scratch_memory);
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
  made->env.weights = model->weights;
  made->env.symbols = made->symbols;
  *context = made;
  return PLANISH_OK;
}

const char *planish_context_error(const planish_context *context) { return context->message.text; }
int32_t planish_context_threads(const planish_context *context) { return context->threads; }
int64_t planish_arena_bytes(const planish_context *context) { return context->sizes[0]; }

/* Make `*memory` hold at least `bytes`, aligned to 4096; large blocks in huge pages where the kernel has them. */
static bool reserve(void **memory, int64_t *capacity, int64_t bytes) {
  if (bytes <= *capacity && *memory) return true;
  free(*memory);
  *memory = NULL;
  *capacity = 0;
  size_t size = ((size_t)bytes + 4095) & ~(size_t)4095;
  if (!size) size = 4096;
  size_t alignment = size >= 2 * HUGE_PAGE ? HUGE_PAGE : 4096;
  if (posix_memalign(memory, alignment, size)) {
    *memory = NULL;
    return false;
  }
#ifdef MADV_HUGEPAGE
  if (alignment == HUGE_PAGE) (void)!madvise(*memory, size, MADV_HUGEPAGE); /* a hint only */
#endif
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

/* First use binds a symbol, later uses must agree. */
static planish_status bind_symbols(planish_context *context) {
  const planish_module *module = context->module;
  uint32_t binder[module->n_symbols + 1];
  for (uint32_t s = 0; s < module->n_symbols; s++) context->symbols[s] = -1;
  for (uint32_t i = 0; i < module->n_inputs; i++) {
    const planish_io_spec *spec = &module->inputs[i];
    planish_quoted name, symbol_name, other;
    for (int32_t d = 0; d < spec->rank; d++) {
      if (spec->dims[d] >= 0) continue;
      int64_t symbol = -(spec->dims[d] + 1), value = context->inputs[i].shape[d];
      if (context->symbols[symbol] < 0) {
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
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "output %s: rank of the buffer: expected %d, got %d",
                       planish_quote(&name, spec->name), spec->rank, slot->tensor.ndim);
  for (int32_t d = 0; slot->bound && d < spec->rank; d++)
    if (slot->shape[d] != dims[d])
      return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                         "output %s: dimension %d of the buffer: expected %" PRId64 ", got %" PRId64,
                         planish_quote(&name, spec->name), d, dims[d], slot->shape[d]);
  if (!slot->bound) {
    if (!reserve(&slot->owned, &slot->capacity, bytes))
      return planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "output %s: no memory for %" PRId64 " bytes",
                         planish_quote(&name, spec->name), bytes);
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
  if (context->inferred) return PLANISH_OK;
  planish_status status = check_bound(context);
  if (!status) status = planish_choose_variant(context);
  if (!status) status = bind_symbols(context);
  if (status) return status;
  context->module->sizes(context->symbols, context->sizes);
  context->inferred = true;
  return PLANISH_OK;
}

planish_status planish_prepare(planish_context *context) {
  if (context->prepared) return PLANISH_OK;
  planish_status status = planish_infer_shapes(context);
  if (status) return status;
  int64_t arena = context->sizes[0], stride = context->sizes[1], scratch;
  bool fits = arena >= 0 && stride >= 0 && stride <= INT64_MAX - 64;
  stride = fits ? (stride + 63) / 64 * 64 : 0;
  fits = fits && !__builtin_mul_overflow(stride, (int64_t)context->threads, &scratch) &&
         reserve(&context->arena_memory, &context->arena_capacity, arena) &&
         reserve(&context->scratch_memory, &context->scratch_capacity, scratch);
  if (!fits)
    return planish_say(&context->message, PLANISH_OUT_OF_MEMORY,
                       "no memory for this call: %" PRId64 " bytes of arena, %" PRId64 " bytes for each of %d threads",
                       arena, context->sizes[1], context->threads);
  context->env.arena = context->arena_memory;
  context->env.scratch = context->scratch_memory;
  context->env.scratch_stride = stride;
  status = fit_outputs(context);
  context->prepared = status == PLANISH_OK;
  return status;
}

planish_status planish_invoke(planish_context *context) {
  planish_status status = planish_prepare(context);
  if (status) return status;
  atomic_store(&context->failed, 0);
  int32_t result = context->module->run(&context->env);
  planish_status failed = atomic_load(&context->failed);
  if (failed) return failed;
  if (result)
    return planish_say(&context->message, PLANISH_FAILED, "the compiled code failed with status %d", result);
  return PLANISH_OK;
}
