// Decide with ONNX Runtime's C++ API: a file of raw float32 numbers a sensor; sensors that are not named are absent.
//   unzip model.fusion model.onnx manifest.json -d model
//   ./decide model/model.onnx eeg=eeg.f32 audio=audio.f32
// Numbers lie in the manifest's layout, little endian (int64 ids of a text). Shift and scale of a wearer are 0 and 1 here.
// Nothing is checked: give it bundles of your own alone (docs/bundle.md says what fusionkit's runtime refuses).
#include <onnxruntime_cxx_api.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

int main(int count, char** words) {
  Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "decide");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session graph(environment, words[1], options);
  std::map<std::string, std::vector<char>> windows;  // bytes by sensor
  for (int i = 2; i < count; ++i) {
    std::string word = words[i], name = word.substr(0, word.find('='));
    std::ifstream file(word.substr(name.size() + 1), std::ios::binary);
    windows[name].assign(std::istreambuf_iterator<char>(file), {});
  }
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<std::string> inputs, outputs;
  for (size_t i = 0; i < graph.GetInputCount(); ++i) inputs.push_back(graph.GetInputNameAllocated(i, allocator).get());
  for (size_t i = 0; i < graph.GetOutputCount(); ++i) outputs.push_back(graph.GetOutputNameAllocated(i, allocator).get());
  std::vector<std::vector<char>> bytes(inputs.size());  // what tensors point to
  std::vector<Ort::Value> feed;
  std::string sensor;  // its window comes first, then _present, _length, _shift and _scale as they apply
  int64_t samples = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Ort::TypeInfo type = graph.GetInputTypeInfo(i);
    auto info = type.GetTensorTypeAndShapeInfo();
    std::vector<int64_t> shape = info.GetShape();
    int64_t numbers = 1;
    bool free = shape.size() > 1 && shape.back() == -1;  // time, or tokens
    for (int64_t& size : shape) numbers *= size = size == -1 ? 1 : size;
    std::string role = sensor.size() && inputs[i].rfind(sensor + "_", 0) == 0 ? inputs[i].substr(sensor.size()) : "";
    if (role == "_present") {
      bytes[i] = {static_cast<char>(windows.count(sensor))};
    } else if (role == "_length") {
      bytes[i].resize(sizeof samples);
      std::memcpy(bytes[i].data(), &samples, sizeof samples);
    } else if (role == "_shift" || role == "_scale") {
      std::vector<float> values(numbers, role == "_scale" ? 1.0f : 0.0f);
      bytes[i].assign(reinterpret_cast<char*>(values.data()), reinterpret_cast<char*>(values.data() + numbers));
    } else {
      sensor = inputs[i];
      int64_t width = info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ? 8 : 4;
      bool here = windows.count(sensor) > 0;
      if (free) shape.back() = here ? windows[sensor].size() / (width * numbers) : 1000;  // of one that is absent: any
      samples = here ? shape.back() : 0;
      bytes[i] = here ? windows[sensor] : std::vector<char>(width * numbers * (free ? shape.back() : 1));
    }
    feed.push_back(Ort::Value::CreateTensor(memory, bytes[i].data(), bytes[i].size(), shape.data(), shape.size(),
                                            info.GetElementType()));
  }
  std::vector<const char*> in, out;
  for (const auto& name : inputs) in.push_back(name.c_str());
  for (const auto& name : outputs) out.push_back(name.c_str());
  auto answers = graph.Run(Ort::RunOptions{}, in.data(), feed.data(), feed.size(), out.data(), out.size());
  for (size_t i = 0; i < answers.size(); ++i)
    for (size_t k = 0; k < answers[i].GetTensorTypeAndShapeInfo().GetElementCount(); ++k)
      std::cout << outputs[i] << " " << k << " " << answers[i].GetTensorData<float>()[k] << "\n";
}
