// SPDX-License-Identifier: Apache-2.0
package org.apache.beam.runners.fnexecution.control;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.DelayedBundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.ProcessBundleResponse;
import org.apache.beam.runners.core.StateInternals;
import org.apache.beam.runners.core.StateInternalsFactory;
import org.apache.beam.runners.core.StateNamespace;
import org.apache.beam.runners.core.StateNamespaces;
import org.apache.beam.runners.core.StateTag;
import org.apache.beam.runners.core.StateTags;
import org.apache.beam.runners.core.TimerInternalsFactory;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.state.TimeDomain;
import org.apache.beam.sdk.state.ValueState;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.util.CoderUtils;
import org.apache.beam.sdk.util.WindowedValue;
import org.joda.time.Instant;

/**
 * Keeps what a splittable DoFn has deferred until its timer fires. Takes the place of the class of this name in Beam
 * before 2.76, which gives every deferred residual a state name of its own: Flink writes all names it ever saw, about
 * 6 KB each, into every checkpoint (apache/beam#27648).
 *
 * <p>Here names are used again. The operator does not say when it has taken a residual back, so a name is free once
 * {@link StateAndTimerBundleCheckpointHandler#KEPT} later residuals of the same key have fallen due: timers of one
 * operator fire in the order of their times. A key (for Flink, an element) may thus have up to that many residuals
 * waiting at once; a reader that is one element with one restriction has one.
 */
public class BundleCheckpointHandlers {

  public static class StateAndTimerBundleCheckpointHandler<T> implements BundleCheckpointHandler {
    public static final String SDF_PREFIX = "sdf_checkpoint";
    static final int KEPT = 16;
    /** Residuals from before a restart: their times are not known, so they are left alone for this long. */
    private static final long RESTORED_MILLIS = 600_000;

    private final TimerInternalsFactory<T> timers;
    private final StateInternalsFactory<T> states;
    private final Coder<WindowedValue<T>> residualCoder;
    private final Coder windowCoder;
    private final Map<List<Object>, List<Slot>> taken = new HashMap<>();

    private static final class Slot {
      final int number;
      final long due;

      Slot(int number, long due) {
        this.number = number;
        this.due = due;
      }
    }

    public StateAndTimerBundleCheckpointHandler(
        TimerInternalsFactory<T> timers,
        StateInternalsFactory<T> states,
        Coder<WindowedValue<T>> residualCoder,
        Coder windowCoder) {
      this.timers = timers;
      this.states = states;
      this.residualCoder = residualCoder;
      this.windowCoder = windowCoder;
    }

    public static boolean isSdfTimer(String timerId) {
      return timerId.startsWith(SDF_PREFIX);
    }

    @Override
    public void onCheckpoint(ProcessBundleResponse response) {
      for (DelayedBundleApplication residual : response.getResidualRootsList()) {
        if (residual.hasApplication()) {
          try {
            keep(residual);
          } catch (Exception e) {
            throw new RuntimeException("Could not keep what a splittable DoFn deferred", e);
          }
        }
      }
    }

    @SuppressWarnings("unchecked")
    private void keep(DelayedBundleApplication residual) throws Exception {
      byte[] encoded = residual.getApplication().getElement().toByteArray();
      WindowedValue<T> whole = CoderUtils.decodeFromByteArray(residualCoder, encoded);
      Instant now = Instant.now();
      Instant due =
          now.plus(
              residual.getRequestedTimeDelay().getSeconds() * 1000
                  + residual.getRequestedTimeDelay().getNanos() / 1_000_000);
      Instant hold = hold(residual);
      StateInternals state = states.stateInternalsForKey(whole.getValue());
      for (BoundedWindow window : whole.getWindows()) {
        StateNamespace namespace = StateNamespaces.window(windowCoder, window);
        String name = name(take(state, namespace, now.getMillis(), due.getMillis()));
        timers
            .timerInternalsForKey(whole.getValue())
            .setTimer(namespace, name, "", due, hold, TimeDomain.PROCESSING_TIME);
        value(state, namespace, name)
            .write(WindowedValue.of(whole.getValue(), whole.getTimestamp(), List.of(window), whole.getPane()));
      }
    }

    /** The watermark that the residual holds back: the least of its outputs' watermarks. */
    private static Instant hold(DelayedBundleApplication residual) {
      return residual.getApplication().getOutputWatermarksMap().values().stream()
          .map(time -> Instant.ofEpochMilli(time.getSeconds() * 1000 + time.getNanos() / 1_000_000))
          .min(Comparator.naturalOrder())
          .orElse(BoundedWindow.TIMESTAMP_MIN_VALUE);
    }

    /** The least number that no waiting residual of this key and window has. */
    private int take(StateInternals state, StateNamespace namespace, long now, long due) {
      List<Slot> slots =
          taken.computeIfAbsent(
              List.of(state.getKey(), namespace.stringKey()), unused -> restored(state, namespace, now));
      List<Slot> past =
          slots.stream()
              .filter(slot -> slot.due <= now)
              .sorted(Comparator.comparingLong(slot -> slot.due))
              .collect(Collectors.toList());
      for (Slot slot : past.subList(0, Math.max(0, past.size() - KEPT))) {
        value(state, namespace, name(slot.number)).clear();
        slots.remove(slot);
      }
      Set<Integer> numbers = new HashSet<>();
      slots.forEach(slot -> numbers.add(slot.number));
      int number = 0;
      while (numbers.contains(number)) {
        number++;
      }
      slots.add(new Slot(number, due));
      return number;
    }

    private List<Slot> restored(StateInternals state, StateNamespace namespace, long now) {
      List<Slot> found = new ArrayList<>();
      int empty = 0;
      for (int number = 0; empty < KEPT; number++) {
        if (value(state, namespace, name(number)).read() == null) {
          empty++;
        } else {
          empty = 0;
          found.add(new Slot(number, now + RESTORED_MILLIS));
        }
      }
      return found;
    }

    private static String name(int number) {
      return SDF_PREFIX + ":" + number;
    }

    private ValueState<WindowedValue<T>> value(StateInternals state, StateNamespace namespace, String name) {
      StateTag<ValueState<WindowedValue<T>>> tag = StateTags.value(name, residualCoder);
      return state.state(namespace, tag);
    }
  }
}
