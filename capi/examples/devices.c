// Lists the devices that can run a model: devices
#include <denoir.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *backend_name(int32_t backend)
{
    switch (backend) {
    case DENOIR_BACKEND_CPU:
        return "cpu";
    case DENOIR_BACKEND_VULKAN:
        return "vulkan";
    case DENOIR_BACKEND_CUDA:
        return "cuda";
    default:
        return "another backend";
    }
}

int main(void)
{
    denoir_context *context = denoir_context_new();
    denoir_device_list *list = NULL;
    denoir_status status = denoir_device_list_new(context, &list);
    const size_t count = denoir_device_list_count(list);
    for (size_t i = 0; status == DENOIR_OK && i < count; i++) {
        denoir_device_info info;
        status = denoir_device_list_describe(context, list, i, &info, sizeof info);
        if (status == DENOIR_OK)
            printf("%s %" PRId32 ": %s, %s, %" PRIu64 " bytes\n", backend_name(info.backend), info.device, info.name,
                   info.level, info.memory_bytes);
    }
    if (status != DENOIR_OK)
        fprintf(stderr, "%s\n", denoir_status_name(status));
    denoir_device_list_free(list);
    denoir_context_free(context);
    return status == DENOIR_OK && count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
