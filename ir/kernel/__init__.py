"""The kernel form: index maps, stages, schedules, builder and interpreter."""
