"""Parameters, gradients and optimizer states divided among the processes, blocks in bfloat16."""

runner_type = 'ShardedRunner'
sharding = dict(param_dtype='bfloat16')
