# The maps as the method itself normalises them, decided at the background setting of its test_cfg.
pseudo_labeler = None
