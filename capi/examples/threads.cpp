// Draws a class on each of two threads over one model, and stops a third one: threads MODEL.gguf
#include <denoir.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

template <auto free> struct Free {
    template <typename T> void operator()(T *handle) const { free(handle); }
};
using Context = std::unique_ptr<denoir_context, Free<denoir_context_free>>;
using Model = std::unique_ptr<denoir_model, Free<denoir_model_free>>;
using Pipeline = std::unique_ptr<denoir_pipeline, Free<denoir_pipeline_free>>;

void check(const Context &context, denoir_status status)
{
    if (status == DENOIR_OK)
        return;
    std::string message(denoir_context_message(context.get(), nullptr, 0), '\0');
    denoir_context_message(context.get(), message.data(), message.size() + 1);
    throw std::runtime_error(message);
}

Model open(const Context &context, const char *path)
{
    denoir_model *model = nullptr;
    check(context, denoir_model_open(context.get(), path, &model));
    return Model(model);
}

// A pipeline of one thread.
Pipeline make(const Context &context, const Model &model)
{
    denoir_pipeline_params params;
    denoir_pipeline_params_init(&params, sizeof params);
    params.backend = DENOIR_BACKEND_CPU;
    params.threads = 1;
    denoir_pipeline *pipeline = nullptr;
    check(context, denoir_pipeline_new(context.get(), model.get(), &params, &pipeline));
    return Pipeline(pipeline);
}

std::vector<std::uint8_t> draw(const Model &model, std::uint32_t number)
{
    const Context context(denoir_context_new());
    const Pipeline pipeline = make(context, model);
    denoir_request request;
    denoir_request_init(&request, sizeof request, model.get());
    request.classes = &number;
    request.steps = 4;
    std::vector<std::uint8_t> pixels(denoir_pixels_size(model.get(), request.images, 0));
    check(context, denoir_generate(context.get(), pipeline.get(), &request, pixels.data(), pixels.size(), 0));
    return pixels;
}

// Whether a drawing that another thread asks to stop ends as cancelled.
bool stops(const Model &model)
{
    const Context context(denoir_context_new());
    const Pipeline pipeline = make(context, model);
    denoir_request request;
    denoir_request_init(&request, sizeof request, model.get());
    std::vector<std::uint8_t> pixels(denoir_pixels_size(model.get(), request.images, 0));
    // Before the drawing begins, asking does nothing: so ask until it ends.
    std::atomic<bool> ended{false};
    std::thread other([&] {
        while (!ended)
            denoir_cancel(context.get());
    });
    const denoir_status status =
        denoir_generate(context.get(), pipeline.get(), &request, pixels.data(), pixels.size(), 0);
    ended = true;
    other.join();
    return status == DENOIR_ERROR_CANCELLED;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s MODEL.gguf\n", argv[0]);
        return 2;
    }
    try {
        const Context context(denoir_context_new());
        const Model model = open(context, argv[1]);
        std::array<std::vector<std::uint8_t>, 2> images;
        std::thread other([&] { images[1] = draw(model, 0); });
        images[0] = draw(model, 0);
        other.join();
        if (images[0] != images[1])
            throw std::runtime_error("one seed gave two images");
        if (!stops(model))
            throw std::runtime_error("a cancelled drawing went on");
        std::printf("two threads drew one image of %zu bytes\n", images[0].size());
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}
