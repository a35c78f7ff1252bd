// What hosts do to callbacks: `hosts MODEL.gguf` tries each in a child process, and says whether it ended as denoir.h says.
#include <denoir.h>

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace {

struct Host {
    denoir_context *context = denoir_context_new();
    denoir_model *model = nullptr;
    denoir_pipeline *pipeline = nullptr;
    std::vector<std::uint8_t> pixels;

    explicit Host(const char *path)
    {
        denoir_pipeline_params params;
        denoir_pipeline_params_init(&params, sizeof params);
        params.backend = DENOIR_BACKEND_CPU;
        params.threads = 3;
        if (denoir_model_open(context, path, &model) != DENOIR_OK ||
            denoir_pipeline_new(context, model, &params, &pipeline) != DENOIR_OK)
            std::exit(2);
        pixels.resize(denoir_pixels_size(model, 1, 0));
    }

    denoir_status draw(denoir_progress_callback progress, void *user_data = nullptr)
    {
        const denoir_callbacks callbacks = {sizeof callbacks, user_data, progress, nullptr, 0};
        denoir_context_set_callbacks(context, &callbacks);
        denoir_request request;
        denoir_request_init(&request, sizeof request, model);
        request.steps = 2;
        return denoir_generate(context, pipeline, &request, pixels.data(), pixels.size(), 0);
    }

    void free()
    {
        denoir_pipeline_free(pipeline);
        denoir_model_free(model);
        denoir_context_free(context);
    }
};

int throws(void *, const denoir_progress *) { throw std::runtime_error("out of a callback"); }

// Ends by `abort`, and never comes back.
int exception(const char *path)
{
    Host host(path);
    try {
        host.draw(throws);
    } catch (...) {
        std::fputs("the exception came through\n", stderr);
    }
    return 1;
}

std::jmp_buf out;

int jumps(void *, const denoir_progress *) { std::longjmp(out, 1); }

// Leaves the pipeline in use. Others work as before.
int jump(const char *path)
{
    static Host host(path);
    if (setjmp(out) == 0) {
        host.draw(jumps);
        return 1;
    }
    if (host.draw(nullptr) != DENOIR_ERROR_BUSY)
        return 1;
    Host other(path);
    if (other.draw(nullptr) != DENOIR_OK)
        return 1;
    other.free();
    return 0;
}

int forks(void *child, const denoir_progress *)
{
    if (*static_cast<pid_t *>(child) < 0)
        *static_cast<pid_t *>(child) = fork();
    return 0;
}

bool ended_well(pid_t child)
{
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The child's drawing ends with an error. It frees what it has, and draws the picture with a pipeline of its own.
int in_child(Host &host, const char *path, const std::vector<std::uint8_t> &picture, denoir_status status)
{
    if (status != DENOIR_ERROR_DEVICE || host.draw(nullptr) != DENOIR_ERROR_DEVICE)
        return 1;
    host.free();
    Host own(path);
    const bool drawn = own.draw(nullptr) == DENOIR_OK && own.pixels == picture;
    own.free();
    return drawn ? 0 : 1;
}

// Forks inside a callback, and between two drawings. The parent goes on as if nothing had happened.
int fork_in_callback(const char *path)
{
    Host host(path);
    if (host.draw(nullptr) != DENOIR_OK)
        return 1;
    const std::vector<std::uint8_t> picture = host.pixels;
    pid_t child = -1;
    const denoir_status status = host.draw(forks, &child);
    if (child == 0)
        _exit(in_child(host, path, picture, status));
    if (status != DENOIR_OK || !ended_well(child))
        return 1;
    child = fork();
    if (child == 0)
        _exit(in_child(host, path, picture, host.draw(nullptr)));
    if (!ended_well(child) || host.draw(nullptr) != DENOIR_OK || host.pixels != picture)
        return 1;
    host.free();
    return 0;
}

struct Case {
    const char *name;
    int (*run)(const char *path);
    int signal; // that ends it; 0: it exits with 0
    bool is_silent;
};

const Case CASES[] = {
    {"an exception out of a callback", exception, SIGABRT, false},
    {"a longjmp out of a callback", jump, 0, true},
    {"a fork", fork_in_callback, 0, true},
};

// Runs a case in a child whose standard error is a pipe.
bool try_case(const Case &test, const char *path)
{
    int ends[2];
    if (pipe(ends) != 0)
        return false;
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(test.run(path));
    }
    close(ends[1]);
    char said[4096];
    std::size_t length = 0;
    for (ssize_t n; length < sizeof said && (n = read(ends[0], said + length, sizeof said - length)) > 0;)
        length += static_cast<std::size_t>(n);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    const bool ended = test.signal != 0 ? WIFSIGNALED(status) && WTERMSIG(status) == test.signal
                                        : WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (ended && (!test.is_silent || length == 0)) {
        std::printf("%s: as documented\n", test.name);
        return true;
    }
    std::printf("%s: wait status %#x, and said %.*s\n", test.name, static_cast<unsigned>(status),
                static_cast<int>(length), said);
    return false;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s MODEL.gguf\n", argv[0]);
        return 2;
    }
    bool all = true;
    for (const Case &test : CASES)
        all = try_case(test, argv[1]) && all;
    return all ? 0 : 1;
}
