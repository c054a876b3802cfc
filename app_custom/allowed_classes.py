"""The classes that our jobs may build at a participant: NVFlare's that we use, and ours. No more.

NVFlare 2.9 builds a class of a job without own code only if it stands on the participant's
``class_allow_list``. The list below is written into simulator workspaces and, by provisioning, into
startup kits. A test holds it against the jobs.
"""

ALLOWED_CLASSES: tuple[str, ...] = (
    "app_custom.aggregators.fedavg.FedAvgAggregator",
    "app_custom.filters.allowed_update.AllowedUpdate",
    "app_custom.final_model.FinalModelLocator",
    "app_custom.translation_executor.TranslationExecutor",
    "app_custom.widgets.continuation.Continuation",
    "app_custom.widgets.final_selection.FinalSelection",
    "app_custom.widgets.global_metrics.GlobalMetrics",
    "app_custom.widgets.site_watch.SiteWatch",
    "lightning_modules.networks.pix2pix_networks.SharedNetworks",
    "nvflare.app_common.shareablegenerators.full_model_shareable_generator."
    "FullModelShareableGenerator",
    "nvflare.app_common.widgets.convert_to_fed_event.ConvertToFedEvent",
    "nvflare.app_common.widgets.intime_model_selector.IntimeModelSelector",
    "nvflare.app_common.workflows.global_model_eval.GlobalModelEval",
    "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather",
    "nvflare.app_opt.pt.file_model_persistor.PTFileModelPersistor",
    "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver",
    "nvflare.app_opt.tracking.tb.tb_writer.TBWriter",
)
