"""The classes that our jobs may build at a participant: NVFlare's that we use, and ours. No more.

NVFlare 2.9 builds a class of a job without own code only if it stands on the participant's
``class_allow_list``. The list below is written into simulator workspaces and, by provisioning, into
startup kits. A test holds it against the jobs.
"""

ALLOWED_CLASSES: tuple[str, ...] = (
    "app_custom.aggregation.aggregator.Aggregator",
    "app_custom.aggregation.compress.Compress",
    "app_custom.aggregation.restore.Restore",
    "app_custom.checkpoints.continuation.Continuation",
    "app_custom.cyclic.relay_rounds.RelayRounds",
    "app_custom.cyclic.relayed_model_generator.RelayedModelGenerator",
    "app_custom.executor.translation_executor.TranslationExecutor",
    "app_custom.gates.allowed_peer_message.AllowedPeerMessage",
    "app_custom.gates.allowed_update.AllowedUpdate",
    "app_custom.server.best_model.BestModel",
    "app_custom.server.final_model.FinalModelLocator",
    "app_custom.server.final_selection.FinalSelection",
    "app_custom.server.global_metrics.GlobalMetrics",
    "app_custom.server.initial_model.InitialModel",
    "app_custom.server.model_files.ModelFiles",
    "app_custom.server.shared_curves.SharedCurves",
    "app_custom.server.site_watch.SiteWatch",
    "app_custom.server.strategy_model_generator.StrategyModelGenerator",
    "app_custom.swarm.all_at_once.AllAtOnce",
    "app_custom.swarm.collect.CollectedModel",
    "app_custom.swarm.reporter.RoundReport",
    "app_custom.swarm.rounds.SwarmRounds",
    "app_custom.swarm.submit.HeldModels",
    "lightning_modules.sharing.shared_networks.SharedNetworks",
    "nvflare.app_common.ccwf.swarm_client_ctl.SwarmClientController",
    "nvflare.app_common.ccwf.swarm_server_ctl.SwarmServerController",
    "nvflare.app_common.shareablegenerators.full_model_shareable_generator."
    "FullModelShareableGenerator",
    "nvflare.app_common.widgets.intime_model_selector.IntimeModelSelector",
    "nvflare.app_common.workflows.broadcast_and_process.BroadcastAndProcess",
    "nvflare.app_common.workflows.cyclic_ctl.CyclicController",
    "nvflare.app_common.workflows.global_model_eval.GlobalModelEval",
    "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather",
    "nvflare.app_opt.tracking.tb.tb_receiver.TBAnalyticsReceiver",
    "nvflare.app_opt.tracking.tb.tb_writer.TBWriter",
)
