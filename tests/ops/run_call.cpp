// Reads one call of the native library from standard input, runs it forward and backward, and writes the output, the
// gradient of value and the gradient of logits: test_native.py runs it for processors other than its own.

#include <cstdint>
#include <cstdio>
#include <vector>

extern "C" std::int64_t volo_outlook_run(const void* value, const void* logits, const void* grad, void* sums,
                                         void* grad_logits, const std::int64_t* sizes, double scale,
                                         std::int64_t dtype, std::int64_t threads, int set_index);

static std::vector<char> read(std::size_t bytes) {
    std::vector<char> data(bytes);
    if (std::fread(data.data(), 1, bytes, stdin) != bytes) std::perror("input ended early");
    return data;
}

int main() {
    std::int64_t sizes[13];
    double scale;
    if (std::fread(sizes, sizeof sizes, 1, stdin) != 1 || std::fread(&scale, sizeof scale, 1, stdin) != 1) return 1;
    const std::int64_t dtype = sizes[10], value_bytes = sizes[11], logits_bytes = sizes[12];
    const std::vector<char> value = read(value_bytes), logits = read(logits_bytes), grad = read(value_bytes);
    std::vector<char> out(value_bytes), grad_value(value_bytes), grad_logits(logits_bytes);
    if (volo_outlook_run(value.data(), logits.data(), nullptr, out.data(), nullptr, sizes, scale, dtype, 2, 0) < 0)
        return 2;
    if (volo_outlook_run(value.data(), logits.data(), grad.data(), grad_value.data(), grad_logits.data(), sizes, scale,
                         dtype, 2, 0) < 0)
        return 3;
    for (const std::vector<char>& part : {out, grad_value, grad_logits}) std::fwrite(part.data(), 1, part.size(), stdout);
    return 0;
}
