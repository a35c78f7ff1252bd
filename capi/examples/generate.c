// Draws one image into a PPM file: generate MODEL.gguf CLASS OUT.ppm [INSTRUCTION-SET]
#include <denoir.h>

#include <stdio.h>
#include <stdlib.h>

static int show(void *user_data, const denoir_progress *progress)
{
    FILE *to = user_data;
    fprintf(to, "step %zu of %zu\n", progress->step, progress->steps);
    return 0; // anything else stops
}

static void print_line(void *user_data, const char *line)
{
    fprintf(user_data, "%s\n", line);
}

static int report(const denoir_context *context, denoir_status status)
{
    char message[256];
    denoir_context_message(context, message, sizeof message);
    fprintf(stderr, "%s: %s\n", denoir_status_name(status), message);
    return EXIT_FAILURE;
}

static int write_ppm(const char *path, const uint8_t *pixels, const denoir_model_info *info)
{
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        return EXIT_FAILURE;
    }
    const size_t size = info->width * info->height * info->channels;
    int failed = fprintf(file, "P6\n%zu %zu\n255\n", info->width, info->height) < 0;
    failed |= fwrite(pixels, 1, size, file) != size;
    failed |= fclose(file) != 0;
    if (failed)
        perror(path);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: %s MODEL.gguf CLASS OUT.ppm [INSTRUCTION-SET]\n", argv[0]);
        return 2;
    }
    denoir_context *context = denoir_context_new();
    denoir_model *model = NULL;
    denoir_pipeline *pipeline = NULL;
    uint8_t *pixels = NULL;
    int result = EXIT_FAILURE;

    const denoir_callbacks callbacks = {sizeof callbacks, stderr, show, print_line, 0};
    denoir_status status = denoir_context_set_callbacks(context, &callbacks);
    if (status == DENOIR_OK)
        status = denoir_model_open(context, argv[1], &model);
    denoir_pipeline_params params;
    denoir_pipeline_params_init(&params, sizeof params);
    if (argc == 5) {
        params.backend = DENOIR_BACKEND_CPU;
        params.isa = argv[4];
    }
    if (status == DENOIR_OK)
        status = denoir_pipeline_new(context, model, &params, &pipeline);

    denoir_model_info info;
    denoir_request request;
    uint32_t class_number = 0;
    if (status == DENOIR_OK)
        status = denoir_model_describe(context, model, &info, sizeof info);
    if (status == DENOIR_OK)
        status = denoir_model_class(context, model, argv[2], &class_number);
    if (status == DENOIR_OK)
        status = denoir_request_init(&request, sizeof request, model);
    if (status == DENOIR_OK) {
        const size_t size = denoir_pixels_size(model, 1, 0);
        request.classes = &class_number;
        pixels = malloc(size);
        status = denoir_generate(context, pipeline, &request, pixels, size, 0);
    }
    if (status == DENOIR_OK)
        result = write_ppm(argv[3], pixels, &info);
    else
        result = report(context, status);

    free(pixels);
    denoir_pipeline_free(pipeline);
    denoir_model_free(model);
    denoir_context_free(context);
    return result;
}
