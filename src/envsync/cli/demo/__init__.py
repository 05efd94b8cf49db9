"""The steps of `envsync demo`, and the throwaway servers that they run on."""
