// planish.hpp: planish.h for C++17, header only. Errors are exceptions of type planish::Error.
//
//   auto model = planish::Model::open();
//   planish::Context context(model);
//   std::vector<float> x(...);
//   context.set_input("x", planish::view(x, {1, 1, 8, 8}));   // no copy: x must outlive the runs
//   context.run();
//   planish::View<const float> y = context.output<float>("y"); // no copy: valid until the next run
//
// A Model may be used by all threads, a Context by one at a time.
#ifndef PLANISH_HPP
#define PLANISH_HPP

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "planish.h"

namespace planish {

class Error : public std::runtime_error {
 public:
  Error(planish_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
  planish_status status() const noexcept { return status_; }  // PLANISH_INVALID_ARGUMENT ...

 private:
  planish_status status_;
};

// Elements of a type that C++ has no number for: the bits.
struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};

template <typename T>
constexpr planish_dtype dtype_of() {
  using U = std::remove_cv_t<T>;
  static_assert(std::is_arithmetic_v<U> || std::is_same_v<U, bf16> || std::is_same_v<U, f16>, "no such element type");
  constexpr auto bits = static_cast<std::uint8_t>(sizeof(U) * 8);
  if constexpr (std::is_same_v<U, bf16>) return {4, bits, 1};
  else if constexpr (std::is_same_v<U, f16> || std::is_floating_point_v<U>) return {2, bits, 1};
  else if constexpr (std::is_same_v<U, bool>) return {6, bits, 1};
  else return {static_cast<std::uint8_t>(std::is_signed_v<U> ? 0 : 1), bits, 1};
}

// Row-major elements that belong to somebody else, and their shape.
template <typename T>
class View {
 public:
  View(T *data, std::vector<std::int64_t> shape) : data_(data), shape_(std::move(shape)), size_(1) {
    for (auto dim : shape_) size_ *= static_cast<std::size_t>(dim);
  }
  T *data() const noexcept { return data_; }
  const std::vector<std::int64_t> &shape() const noexcept { return shape_; }
  std::size_t size() const noexcept { return size_; }
  T *begin() const noexcept { return data_; }
  T *end() const noexcept { return data_ + size_; }
  T &operator[](std::size_t i) const { return data_[i]; }

 private:
  T *data_;
  std::vector<std::int64_t> shape_;
  std::size_t size_;
};

// A view of a container such as std::vector or std::array. Throws Error if the shape has another number of elements.
template <typename C>
auto view(C &container, std::vector<std::int64_t> shape) {
  View<std::remove_pointer_t<decltype(container.data())>> made(container.data(), std::move(shape));
  if (made.size() != container.size())
    throw Error(PLANISH_INVALID_ARGUMENT, "view: the shape has " + std::to_string(made.size()) + " elements, the data " +
                                              std::to_string(container.size()));
  return made;
}

// What an input or output is declared to be; a dimension is a number or the name of a symbol. A model that leaves the
// rank open has rank -1 and no shape here.
struct Port {
  struct Dim {
    std::int64_t size;   // -1: a symbol
    std::string symbol;  // empty: a number
  };
  std::string name, dtype;
  std::vector<Dim> shape;
  std::int32_t rank;
};

class Model {
 public:
  using Opener = planish_status (*)(const planish_model **, planish_message *);

  // The model of the artifact that this program is linked to; with several artifacts pass their planish_open_NAME.
  static Model open(Opener opener = planish_model_open) {
    planish_message message;
    const planish_model *model = nullptr;
    if (auto status = opener(&model, &message)) throw Error(status, message.text);
    return Model(model);
  }
  const planish_model *get() const noexcept { return model_; }
  std::string name() const { return planish_model_name(model_); }
  std::vector<Port> inputs() const { return ports(planish_input_count(model_), planish_input_info); }
  std::vector<Port> outputs() const { return ports(planish_output_count(model_), planish_output_info); }
  std::string_view manifest() const {  // JSON
    std::uint64_t bytes = 0;
    const char *text = planish_model_manifest(model_, &bytes);
    return {text, static_cast<std::size_t>(bytes)};
  }

 private:
  explicit Model(const planish_model *model) : model_(model) {}

  std::vector<Port> ports(std::int32_t count,
                          planish_status (*info)(const planish_model *, std::int32_t, planish_io *)) const {
    std::vector<Port> found;
    for (std::int32_t i = 0; i < count; i++) {
      planish_io io;
      if (auto status = info(model_, i, &io)) throw Error(status, "no such input or output");
      Port port{io.name, io.dtype_name, {}, io.rank};
      for (std::int32_t d = 0; d < io.rank; d++) {
        if (io.dims[d] >= 0) port.shape.push_back({io.dims[d], {}});
        else port.shape.push_back({-1, planish_symbol_name(model_, static_cast<std::int32_t>(-(io.dims[d] + 1)))});
      }
      found.push_back(std::move(port));
    }
    return found;
  }

  const planish_model *model_;
};

// A value of any kind, with copies of what it is made of but for tensors, whose elements stay where they are.
class Value {
 public:
  enum class Kind { tensor, strings, sequence, map, absent };

  static Value absent() { return Value(Kind::absent); }
  static Value strings(std::vector<std::string> texts, std::vector<std::int64_t> shape) {
    Value made(Kind::strings);
    made.texts_ = std::move(texts);
    made.shape_ = std::move(shape);
    std::size_t size = 1;
    for (auto dim : made.shape_) size *= static_cast<std::size_t>(dim);
    if (size != made.texts_.size()) throw Error(PLANISH_INVALID_ARGUMENT, "strings: the shape has another number of elements");
    return made;
  }
  static Value strings(std::vector<std::string> texts) {
    const auto size = static_cast<std::int64_t>(texts.size());
    return strings(std::move(texts), {size});
  }
  template <typename T>
  static Value tensor(const View<T> &data) {
    Value made(Kind::tensor);
    made.data_ = const_cast<std::remove_const_t<T> *>(data.data());
    made.dtype_ = dtype_of<T>();
    made.shape_ = data.shape();
    return made;
  }
  static Value sequence(std::vector<Value> items) {
    Value made(Kind::sequence);
    made.items_ = std::move(items);
    return made;
  }
  // Keys: a tensor or strings of one dimension; values: the same, or a sequence.
  static Value map(Value keys, Value values) {
    Value made(Kind::map);
    made.items_.push_back(std::move(keys));
    made.items_.push_back(std::move(values));
    return made;
  }

  Kind kind() const noexcept { return kind_; }
  // Of a tensor or strings; of strings; of a sequence, or keys and values of a map. Those of a temporary are moved out.
  const std::vector<std::int64_t> &shape() const & noexcept { return shape_; }
  const std::vector<std::string> &texts() const & noexcept { return texts_; }
  const std::vector<Value> &items() const & noexcept { return items_; }
  std::vector<std::int64_t> shape() && { return std::move(shape_); }
  std::vector<std::string> texts() && { return std::move(texts_); }
  std::vector<Value> items() && { return std::move(items_); }
  template <typename T>
  View<const T> view() const {  // of a tensor
    const auto wanted = dtype_of<T>();
    if (kind_ != Kind::tensor || dtype_.code != wanted.code || dtype_.bits != wanted.bits)
      throw Error(PLANISH_INVALID_ARGUMENT, "the value has another kind or element type");
    return {static_cast<const T *>(data_), shape_};
  }

  // What C takes; `blocks` keeps what it points to, beside this value.
  planish_value to_c(std::vector<std::shared_ptr<void>> &blocks) const {
    planish_value made{};
    made.kind = static_cast<planish_kind>(kind_);
    if (kind_ == Kind::tensor) {
      made.as.tensor.data = data_;
      made.as.tensor.device.type = 1;
      made.as.tensor.ndim = static_cast<std::int32_t>(shape_.size());
      made.as.tensor.dtype = dtype_;
      made.as.tensor.shape = const_cast<std::int64_t *>(shape_.data());
    } else if (kind_ == Kind::strings) {
      auto texts = std::make_shared<std::vector<const char *>>();
      auto lengths = std::make_shared<std::vector<std::uint64_t>>();
      for (const auto &text : texts_) {
        texts->push_back(text.data());
        lengths->push_back(text.size());
      }
      made.as.strings = {texts->data(), lengths->data(), shape_.data(), static_cast<std::int32_t>(shape_.size())};
      blocks.push_back(texts);
      blocks.push_back(lengths);
    } else if (kind_ != Kind::absent) {
      auto items = std::make_shared<std::vector<planish_value>>();
      for (const auto &item : items_) items->push_back(item.to_c(blocks));
      if (kind_ == Kind::map) made.as.map = {&(*items)[0], &(*items)[1]};
      else made.as.sequence = {items->data(), static_cast<std::int64_t>(items->size())};
      blocks.push_back(items);
    }
    return made;
  }
  static Value from_c(const planish_value &from) {
    Value made(static_cast<Kind>(from.kind));
    if (from.kind == PLANISH_TENSOR) {
      made.data_ = from.as.tensor.data;
      made.dtype_ = from.as.tensor.dtype;
      if (from.as.tensor.ndim) made.shape_.assign(from.as.tensor.shape, from.as.tensor.shape + from.as.tensor.ndim);
    } else if (from.kind == PLANISH_STRINGS) {
      const auto &strings = from.as.strings;
      std::size_t size = 1;
      if (strings.ndim) made.shape_.assign(strings.shape, strings.shape + strings.ndim);
      for (auto dim : made.shape_) size *= static_cast<std::size_t>(dim);
      for (std::size_t i = 0; i < size; i++) made.texts_.emplace_back(strings.data[i], strings.lengths[i]);
    } else if (from.kind == PLANISH_SEQUENCE) {
      for (std::int64_t i = 0; i < from.as.sequence.count; i++) made.items_.push_back(from_c(from.as.sequence.items[i]));
    } else if (from.kind == PLANISH_MAP) {
      made.items_ = {from_c(*from.as.map.keys), from_c(*from.as.map.values)};
    }
    return made;
  }

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  Kind kind_;
  void *data_ = nullptr;
  planish_dtype dtype_{};
  std::vector<std::int64_t> shape_;
  std::vector<std::string> texts_;
  std::vector<Value> items_;
};

// Threads that several contexts share.
class Pool {
 public:
  explicit Pool(std::int32_t threads = 0) : pool_(planish_pool_create(threads), planish_pool_destroy) {
    if (!pool_) throw Error(PLANISH_OUT_OF_MEMORY, "pool: out of memory");
  }
  planish_pool *get() const noexcept { return pool_.get(); }
  std::int32_t size() const noexcept { return pool_->size; }

 private:
  std::unique_ptr<planish_pool, void (*)(planish_pool *)> pool_;
};

class Context {
 public:
  // `threads` 0: all of the pool's. A pool that is passed must outlive the context.
  explicit Context(const Model &model, std::int32_t threads = 0) : Context(model, nullptr, threads) {}
  Context(const Model &model, const Pool &pool, std::int32_t threads = 0) : Context(model, pool.get(), threads) {}

  template <typename T>
  void set_input(std::string_view name, const View<T> &data) {
    const std::string text(name);
    const auto index = planish_find_input(model_, text.c_str());
    if (index < 0) throw Error(PLANISH_INVALID_ARGUMENT, "the model has no input '" + text + "'");
    auto tensor = as_tensor(data);
    check(planish_set_input(context_.get(), index, &tensor));
  }

  // Any kind; the elements of tensors in it must outlive the runs.
  void set_input(std::string_view name, const Value &value) {
    const std::string text(name);
    const auto index = planish_find_input(model_, text.c_str());
    if (index < 0) throw Error(PLANISH_INVALID_ARGUMENT, "the model has no input '" + text + "'");
    std::vector<std::shared_ptr<void>> blocks;
    const auto made = value.to_c(blocks);
    check(planish_set_input_value(context_.get(), index, &made));
  }

  // An output of any kind after a run; tensors in it are valid until the next one.
  Value value(std::string_view name) {
    planish_value found{};
    check(planish_get_output_value(context_.get(), find_output(name), &found));
    return Value::from_c(found);
  }

  // What each run may take; 0: no limit.
  void set_limits(std::int64_t max_bytes, double seconds) {
    check(planish_context_set_limits(context_.get(), max_bytes, seconds));
  }
  // End the run that is under way, or the next one; any thread may call it.
  void cancel() noexcept { planish_context_cancel(context_.get()); }

  // Write this output into the caller's memory.
  template <typename T>
  void set_output(std::string_view name, const View<T> &data) {
    static_assert(!std::is_const_v<T>, "an output is written");
    auto tensor = as_tensor(data);
    check(planish_set_output(context_.get(), find_output(name), &tensor));
  }

  void run() { check(planish_invoke(context_.get())); }

  template <typename T>
  View<const T> output(std::string_view name) {
    planish_tensor tensor;
    check(planish_get_output(context_.get(), find_output(name), &tensor));
    const auto wanted = dtype_of<T>();
    if (tensor.dtype.code != wanted.code || tensor.dtype.bits != wanted.bits)
      throw Error(PLANISH_INVALID_ARGUMENT, "output '" + std::string(name) + "' has another element type");
    return {static_cast<const T *>(tensor.data), {tensor.shape, tensor.shape + tensor.ndim}};
  }

  /// What the model keeps from run to run, in this context, as it is before the first run.
  void reset_states() noexcept { planish_reset_states(context_.get()); }

  planish_context *get() const noexcept { return context_.get(); }

 private:
  Context(const Model &model, planish_pool *pool, std::int32_t threads)
      : model_(model.get()), context_(nullptr, planish_context_destroy) {
    planish_message message;
    planish_context *context = nullptr;
    if (auto status = planish_context_create(model_, pool, threads, &context, &message)) throw Error(status, message.text);
    context_.reset(context);
  }

  template <typename T>
  static planish_tensor as_tensor(const View<T> &data) {
    using U = std::remove_const_t<T>;
    planish_tensor tensor{};
    tensor.data = const_cast<U *>(data.data());
    tensor.device.type = 1;
    tensor.ndim = static_cast<std::int32_t>(data.shape().size());
    tensor.dtype = dtype_of<T>();
    tensor.shape = const_cast<std::int64_t *>(data.shape().data());
    return tensor;
  }

  std::int32_t find_output(std::string_view name) const {
    const std::string text(name);
    const auto index = planish_find_output(model_, text.c_str());
    if (index < 0) throw Error(PLANISH_INVALID_ARGUMENT, "the model has no output '" + text + "'");
    return index;
  }

  void check(planish_status status) const {
    if (status) throw Error(status, planish_context_error(context_.get()));
  }

  const planish_model *model_;
  std::unique_ptr<planish_context, void (*)(planish_context *)> context_;
};

}  // namespace planish

#endif
