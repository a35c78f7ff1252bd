// Linked into the sanitizers' examples: libraries stay loaded. What a driver keeps for good would else count as lost
// once the Vulkan loader closes it, and reports could not name its functions.
int dlclose(void *library)
{
    (void)library;
    return 0;
}
