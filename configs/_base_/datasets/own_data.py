# Images and tags of your own, nothing else, see docs/own_data.md, with the views of voc12mini_224.py. MMWSSS_DATA_ROOT is the folder; its
# classes are read from the tags (or classes.txt), so own_data.num_classes is what the heads of a model need. Where there are masks they
# are for scores only.
_base_ = './voc12mini_224.py'  # before an import, which would make mmengine take this for a config of its newer kind
import pkgutil  # noqa: E402

own_data = pkgutil.resolve_name('mmwsss.datasets.own_data:find_own_data')('{{$MMWSSS_DATA_ROOT:data/own}}').config()
dataset_type, data_root = own_data['train']['type'], own_data['train']['data_root']
test_pipeline = [step for step in _base_.test_pipeline if own_data['has_masks'] or step['type'] != 'LoadAnnotations']
train_dataloader = dict(dataset=dict(own_data['train'], _delete_=True, pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(own_data['val'], _delete_=True, pipeline=test_pipeline, test_mode=True))
test_dataloader = val_dataloader
