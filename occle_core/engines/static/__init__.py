"""The static form: a network as one program of fixed shapes, for engines that need one."""
