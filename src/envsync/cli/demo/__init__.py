"""What `envsync demo` plays, and the throwaway servers that it plays on."""
