// Run a compiled model from C++: every input is filled with ones, the first values of each output are printed.
//
//   planish compile model.onnx -o model.so
//   c++ -std=c++17 main.cpp model.so -I "$(python -m planish.runtime --include)" -Wl,-rpath,'$ORIGIN' -o app && ./app
#include <cstdint>
#include <iostream>
#include <list>
#include <string>
#include <vector>

#include "planish.hpp"

namespace {

constexpr std::int64_t symbol_size = 3;  // what symbolic dimensions, such as a batch, are set to here

std::vector<std::int64_t> shape_of(const planish::Port &port) {
  std::vector<std::int64_t> shape;
  for (const auto &dim : port.shape) shape.push_back(dim.size >= 0 ? dim.size : symbol_size);
  return shape;
}

// Makes the data, which must live as long as the context reads it, and binds it.
template <typename T>
void set_ones(planish::Context &context, const planish::Port &port, std::list<std::vector<T>> &keep) {
  const auto shape = shape_of(port);
  std::size_t size = 1;
  for (auto dim : shape) size *= static_cast<std::size_t>(dim);
  auto &data = keep.emplace_back(size, T{1});
  context.set_input(port.name, planish::view(data, shape));
}

void run() {
  const auto model = planish::Model::open();
  planish::Context context(model);
  std::list<std::vector<float>> floats;
  std::list<std::vector<std::int64_t>> integers;
  for (const auto &port : model.inputs()) {
    if (port.dtype == "f32") set_ones(context, port, floats);
    else if (port.dtype == "i64") set_ones(context, port, integers);
    else throw planish::Error(PLANISH_FAILED, "this example has no values of type " + port.dtype);
  }
  context.run();
  std::cout << "model: " << model.name() << "\n";
  for (const auto &port : model.outputs()) {
    const auto values = context.output<float>(port.name);
    std::cout << port.name << ": " << port.dtype << "[";
    for (std::size_t d = 0; d < values.shape().size(); d++) std::cout << (d ? "," : "") << values.shape()[d];
    std::cout << "]";
    for (std::size_t i = 0; i < values.size() && i < 10; i++) std::cout << " " << values[i];
    std::cout << "\n";
  }
}

}  // namespace

int main() {
  try {
    run();
  } catch (const planish::Error &error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
