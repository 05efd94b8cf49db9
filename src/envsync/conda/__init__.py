"""What conda and pip make of an environment: packages, signs of a running installer, paths that
lead outside, platforms. All is computed on values and bytes.
"""
